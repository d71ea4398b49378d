from adprune_keras import report


def net(index, widths, epochs, ops, params, accuracy, reason=""):
    return {
        "net": index,
        "widths": dict(zip("ab", widths, strict=True)),
        "epochs": epochs,
        "ops_reduction": {"paper": ops, "deployed": ops / 2},
        "params_reduction": {"paper": params, "deployed": params / 2},
        "logs": {"val_accuracy": [0.1, accuracy]} if accuracy else {},
        "reason": reason,
    }


NETS = [
    net(0, [64, 64], 100, 1.0, 1.0, 0.97, "AE saturated"),
    net(1, [34, 29], 210, 6.0, 7.0, 0.965),
]

TABLE = """\
| net  | configuration | accuracy | parameters reduction | OPS reduction | epochs |
| ---- | ------------- | -------- | -------------------- | ------------- | ------ |
| net0 | [64, 64]      | 97.00 %  | 1.00x / 0.50x        | 1.00x / 0.50x | 100    |
| net1 | [34, 29]      | 96.50 %  | 7.00x / 3.50x        | 6.00x / 3.00x | 210    |

- Reductions: paper count / deployed count.
- Training complexity (paper count): 135.0 for 310 epochs (dense: 310); memory complexity 130.0.
- Training complexity (deployed count): 270.0 for 310 epochs (dense: 310); memory complexity 260.0.
- net0: AE saturated.
"""


def test_summary():
    assert report.summary(NETS) == TABLE


def test_summary_without_accuracy_costs_or_epochs():
    bare = net(1, [34, 29], 3, 1.0, 1.0, None) | {"ops_reduction": None, "params_reduction": None}
    untrained = net(2, [5, 5], 0, 1.0, 1.0, None)
    lines = report.summary([NETS[0], bare, untrained]).splitlines()
    assert lines[3] == (
        "| net1 | [34, 29]      | n/a      | n/a                  | n/a           | 3      |"
    )
    assert not any("net2" in line for line in lines)


def test_complexities():
    assert report.complexities(NETS)["paper"] == (135.0, 130.0)
