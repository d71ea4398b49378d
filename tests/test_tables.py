import csv

import pytest

from adprune_keras.record.lines import Run
from adprune_keras.report import paper
from adprune_keras.report.paper_tables import study_of, table_1, table_2, table_3, table_4
from adprune_keras.report.summary import complexities, summary
from adprune_keras.report.table import markdown_table


def net(index, widths, epochs, ops, params, accuracy, reason=""):
    return {
        "net": index,
        "widths": dict(zip("ab", widths, strict=True)),
        "epochs": epochs,
        "ops_reduction": {"paper": ops, "deployed": ops / 2},
        "params_reduction": {"paper": params, "deployed": params / 2},
        "logs": {"val_accuracy": [0.1, accuracy]} if accuracy else {},
        "profile": "convex" if index == 0 else "concave",
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
- net0 (convex AE): AE saturated.
"""


def test_summary():
    assert summary(NETS) == TABLE


def test_summary_without_accuracy_costs_or_epochs():
    bare = net(1, [34, 29], 3, 1.0, 1.0, None) | {"ops_reduction": None, "params_reduction": None}
    untrained = net(2, [5, 5], 0, 1.0, 1.0, None)
    lines = summary([NETS[0], bare, untrained]).splitlines()
    assert lines[3] == (
        "| net1 | [34, 29]      | n/a      | n/a                  | n/a           | 3      |"
    )
    assert not any("net2" in line for line in lines)


def test_complexities():
    assert complexities(NETS)["paper"] == (135.0, 130.0)


def as_run(study, final=None, **flags):
    """A run that went as the paper says, up to net `final`."""
    study = paper.STUDIES[study]
    nets = [
        {
            "net": k,
            "widths": {str(i): w for i, w in enumerate(row.widths)},
            "epochs": study.cycle if k == final else row.epochs,
            "ops_reduction": {"paper": row.ops, "deployed": row.ops},
            "params_reduction": {"paper": row.params, "deployed": row.params},
            "logs": {"val_accuracy": [row.accuracy / 100]},
            "reason": "",
        }
        for k, row in enumerate(study.nets[: final + 1])
    ]
    flags = {"network": study.network, "dataset": f"somewhere/{study.dataset}.npz"} | flags
    return Run("a", {"flags": flags, "data": {"classes": study.classes, "train_examples": 9}}, nets, {})


def cells(table, heading):
    text = dict(table.columns)[heading]
    return [text(row) for row in table.rows]


def test_table_1_has_the_paper_beside_it_where_the_case_is_the_same():
    same, subset = as_run("cifar10_resnet18", 2), as_run("cifar10_resnet18", 1, train_examples=9)
    table = table_1([same, subset])
    assert cells(table, "net") == ["net0", "net1", "net2", "net0", "net1"]
    assert cells(table, "accuracy")[:3] == ["97.00 %", "97.00 %", "95.00 %"]
    printed = cells(table, "paper: accuracy, parameters, OPS, epochs")
    assert printed == ["97 %, 1x, 1x, 100", "97 %, 7.3x, 6.0x, 70", "95 %, 41.2x, 23.2x, 70", "", ""]
    assert cells(table, "run")[3] == "a (ResNet18, cifar10, 9 images)"
    assert "paper: accuracy" not in table_1([subset]).markdown()
    rows = list(csv.DictReader(table.csv().splitlines()))
    assert (rows[1]["ops_deployed"], rows[1]["paper_ops"], rows[3]["paper_ops"]) == ("6.0", "6.0", "")


@pytest.mark.parametrize(
    "other", [{"network": "VGG19"}, {"dataset": "cifar100"}, {"dataset": "cifar10x.npz"}]
)
def test_another_case_is_not_the_papers(other):
    assert study_of(as_run("cifar10_resnet18", 1, **other)) is None
    narrow = as_run("cifar10_resnet18", 1)
    narrow.nets[0]["widths"]["0"] = 16
    assert study_of(narrow) is None


@pytest.mark.parametrize(
    ("study", "final", "expected"),
    [
        ("cifar10_resnet18", 2, ["210.0", "135.0", "120.7"]),
        ("cifar100_resnet18", 1, ["210.0", "66.2"]),
        ("cifar100_vgg19", 1, ["210.0", "64.6"]),
        ("tinyimagenet_resnet18", 1, ["60.0", "37.8"]),  # 37.77: printed cut off, as 37.7
        ("cifar10_vgg19", 2, ["210.0", "137.5", "120.2"]),
    ],
)
def test_table_2_gives_the_papers_figures_for_the_papers_nets(study, final, expected):
    table = table_2([as_run(study, final)])
    assert cells(table, "training complexity") == [f"{v} / {v}" for v in expected]
    assert cells(table, "net")[-1] == f"net{final}, final"
    printed = paper.STUDIES[study].complexity
    assert [row["paper"] for row in table.rows] == [printed.get(k) for k in range(final + 1)]


def test_table_2_counts_a_roll_back():
    """net0 10 epochs, net1 (2x) 8, net2 (4x) 6, back to net1 for 20."""
    nets = [
        net(0, [4, 4], 10, 1.0, 1.0, 0.5),
        net(1, [3, 3], 8, 2.0, 2.0, 0.5),
        net(2, [2, 2], 6, 4.0, 4.0, 0.5),
        net(1, [3, 3], 20, 2.0, 2.0, 0.6),
    ]
    run = Run("b", as_run("cifar10_vgg19", 1).header, nets, {})
    values = [row["complexity"]["paper"] for row in table_2([run]).rows]
    assert values == [20, 10 + 8 / 2 + 6 / 4 + 20 / 2, 10 + 8 / 2 + 20 / 4]
    assert [row["final"] for row in table_2([run]).rows] == [False, True, False]


def test_tables_3_and_4_take_the_runs_of_their_case():
    runs = [as_run("cifar100_vgg19", 1), as_run("cifar10_resnet18", 2), as_run("cifar10_vgg19", 2)]
    third, fourth = table_3(runs), table_4(runs)
    assert cells(third, "training complexity") == ["206.6", "260", "64.6", "64.6 / 64.6"]
    assert cells(third, "source")[0] == "Garg et al., as the paper cites them"
    assert cells(fourth, "network")[4:] == ["ResNet18", "VGG19"]
    # by its own formula, not as printed: section IV-D
    assert cells(fourth, "training memory complexity")[4:] == ["114.7 / 114.7", "143.0 / 143.0"]
    assert cells(fourth, "OPS reduction")[0] == "n/a"


def test_markdown_of_hostile_text():
    cell = "a|b\n`c` \\| <script>&\x1b[2J 1 < 2"
    lines = markdown_table(["x"], [[cell], ["y"]])
    assert lines[2] == r"| a\|b \`c\` \\\| \<script>& [2J 1 < 2 |"
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    notes = summary([net(0, [4, 4], 1, 1.0, 1.0, 0.5, "one\n- two <b>.")]).splitlines()
    assert notes[-1] == r"- net0 (convex AE): one - two \<b>."
