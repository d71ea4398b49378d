import html.parser
import json
import shlex

import pytest
from toys import header, net_entry

from adprune_keras.record.lines import Run
from adprune_keras.report import facts, page

EVIL = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(2)> $\\frac{1}$ `|\n<!-- ]]>"
COSTS = {
    "a": {"macs": 4_000_000, "params": 40, "bias": 8, "owns_width": True},
    "side": {"macs": 1_000_000, "params": 10, "bias": 0, "owns_width": False},
}
ROW = {"file": "model.onnx", "bytes": 441_965, "problems": [], "macs": 164_429, "accuracy": 98.0}


class Page(html.parser.HTMLParser):
    """What a page holds: texts, tags with their attributes, rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.rows = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] != "style":
            self.texts.append(data)
        if self.tags and self.tags[-1][0] in ("td", "th") and data.strip():
            self.rows[-1].append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def figures(self):
        return [svg["aria-label"] for svg in self.named("svg")]


def shown(*nets, name="one", result=True, export=None, size=2_450_000, **flags):
    head = header(**flags) | {"versions": {"keras": "3.15.1", "backend": "jax"}}
    done = {"kind": "result"} if result else None
    return facts.Shown(Run(name, head, list(nets), done), export or {}, size)


def pruned(**fields):
    one = {"layer_costs": COSTS, "reason": "AE saturated at 0.45"} | fields
    half = {name: cost | {"macs": cost["macs"] // 4} for name, cost in COSTS.items()}
    two = {"layer_costs": half, "widths": {"a": 3, "b": 1}} | fields
    return net_entry(0, 0, 2, "pruned", **one), net_entry(1, 2, 3, **two)


def check(text):
    """A page that needs nothing else, runs nothing, and has each id once."""
    found = Page(text)
    assert not found.named("script")
    assert len(found.named("style")) == 1
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in found.tags:
        assert not any(key.startswith("on") for key in attrs)
        for key in ("href", "src", "xlink:href"):
            target = attrs.get(key, "#")
            assert target.startswith("data:") or target == "#" or target[1:] in ids, (tag, target)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in found.named("svg"))
    return found


def test_page_of_a_run():
    export = {"onnx": ROW, "tflite_int8": ROW | {"bytes": None, "problems": ["it is NaN"]}}
    found = check(page.html([shown(*pruned(), export=export, widths=["8", "4"])]))
    assert found.figures() == [
        "Test accuracy and activation density over the epochs, net by net",
        "Width of each layer, net by net, to net1",
        "Activation density of each layer over the epochs",
        "Multiply-accumulates of each layer, before and after",
    ]
    for text in (
        "Trained for 5 epochs, pruned once: from 12 channels to 4.",
        "OPS reduction 2.00x paper 2.00x deployed",
        "Training complexity 3.5 paper 3.5 deployed",  # 2 / 1 + 3 / 2
        "442 kB model.onnx",
        "final.keras, with its optimizer: 2.45 MB",
        "Epoch 2: net0 was pruned to net1. AE saturated at 0.45",
        "1. Epoch 2: net0 was pruned to net1. AE saturated at 0.45",  # where the pointer is on the mark
        "it is NaN",
        "KERAS_BACKEND=jax adprune-train --network=VGG19 --dataset=x.npz --widths=8,4",
        "keras 3.15.1",
    ):
        assert text in found.text, text
    assert next(row[:7] for row in found.rows if row[0] == "onnx") == [
        "onnx",
        "model.onnx",
        "verified",
        "442 kB",
        "164,429",
        "n/a",
        "98.00 %",
    ]
    assert any(row[:4] == ["tflite_int8", "model.onnx", "failed", "n/a"] for row in found.rows)
    assert ["a", "8", "3", "0.500", "4,000,000", "1,000,000"] in found.rows
    assert ["net1", "[3, 1]", "30.00 %", "2.00x / 2.00x", "2.00x / 2.00x", "3", "convex"] in found.rows


def test_runs_side_by_side():
    dense = net_entry(densities={}, logs={"val_accuracy": [0.1, 0.9]})
    text = page.html([shown(*pruned()), shown(dense, name="dense"), shown(dense, name="dense")])
    found = check(text)
    assert found.figures()[:2] == [
        "Test accuracy against OPS reduction of each net",
        "Test accuracy over the epochs of each run",
    ]
    assert found.rows[1][:3] == ["one", "VGG19, x", "30.00 %"]
    assert [row[0] for row in found.rows[1:4]] == ["one", "dense", "dense"]
    assert {a["href"] for a in found.named("a")} == {"#run1", "#run2", "#run3"}


@pytest.mark.parametrize(
    ("nets", "result", "words", "figures"),
    [
        ([net_entry(outcome="training")], False, "Still training, or stopped: 2 epochs so far", 3),
        ([net_entry(outcome="failed", reason="failed: loss NaN")], False, "Failed: loss NaN", 3),
        ([net_entry(densities={}, logs={"val_accuracy": [0.1, 0.9]})], True, "Trained to its end", 2),
        ([net_entry(logs={}, densities={}, widths={})], True, "Test accuracy n/a", 1),
        ([net_entry(ops_reduction=None, params_reduction=None, layer_costs=None)], True, "n/a", 3),
        ([net_entry(densities={"a": [None, None]})], True, "never pruned", 3),
        ([net_entry(layer_costs={"a": COSTS["a"] | {"macs": 0}})], True, "never pruned", 3),
        ([net_entry(cost=None, layer_costs=COSTS)], True, "of net0", 4),
        (
            [*pruned(), net_entry(2, 5, 0, "training", logs={}, densities={})],
            False,
            "net0 was pruned to net1",
            4,
        ),
        (
            [
                net_entry(0, 0, 2, "pruned"),
                net_entry(1, 2, 2, "rolled back"),
                net_entry(0, 4, 2, widths={"a": 8, "b": 4}),
            ],
            True,
            "net1 was taken back to net0",
            3,
        ),
    ],
)
def test_runs_of_every_kind(nets, result, words, figures):
    """Training, failed, dense, without densities, without costs (older or not counted), taken back."""
    found = check(page.html([shown(*nets, result=result, size=None)]))
    assert words in found.text
    assert len(found.figures()) == figures
    assert page.markdown([shown(*nets, result=result, size=None)])


def test_everything_from_a_record_is_text():
    names = {"densities": {EVIL: [0.5, 0.4], "$$": [0.5, 0.4]}, "widths": {EVIL: 8, "$": 4}}
    net = net_entry(outcome="pruned", reason=EVIL, layer_costs={EVIL: COSTS["a"]}, **names)
    last = net_entry(1, 2, reason=EVIL, layer_costs={EVIL: COSTS["a"]}, **names)
    export = {EVIL: ROW | {"file": EVIL, "problems": [EVIL]}, "b": ROW | {"file": EVIL}}
    flags = {
        "network": EVIL,
        "dataset": EVIL,
        EVIL: EVIL,
        "include": [EVIL, "\ud800\0"],
        "seed": {"a": 1},
    }
    one = shown(net, last, name=EVIL, export=export, **flags)
    one.run.header["versions"] = {EVIL: EVIL, "backend": EVIL}
    found = check(page.html([one, one]))
    assert not found.named("img")
    assert "<script>alert(1)</script>" in found.text
    page.html([one, one]).encode()
    text = page.markdown([one]).encode().decode()
    assert "<img" not in text.split("```")[0].replace("\\<img", "")


def test_what_is_too_much_is_left_out_and_said():
    many = {f"layer{i}": 1 + i % 9 for i in range(2000)}
    costs = {name: COSTS["a"] for name in many}
    wide = {
        "widths": many,
        "layer_costs": costs,
        "densities": dict.fromkeys(list(many)[:500], [0.5] * 2),
    }
    nets = [net_entry(i, 2 * i, 2, "pruned", reason="x" * 4000, **wide) for i in range(20)]
    nets += [net_entry(20 + i, 40 + 2 * i, 2, "pruned") for i in range(100)]
    text = page.html([shown(*nets, exclude=["y" * 30_000])])
    found = check(text)
    assert len(text) < 2_000_000
    for words in (
        "The first 150 of 2,002.",
        "96 more changes",
        "1,802 more rows",
        "--flagfile=flags.txt",
    ):
        assert words in found.text
    x = [0.1 + i / 100_000 for i in range(50_000)]
    long = net_entry(0, 0, 50_000, logs={"val_accuracy": x}, densities={"a": x})
    assert len(page.html([shown(long)])) < 200_000


def test_command_is_what_a_shell_reads_back():
    flags = {"network": "VGG19", "dataset": "my data/x'1.npz", "prune": False, "backup": True}
    flags |= {"widths": ["8", "4"], "include": ["a,b", "c d"], "export": [], "seed": 0, "data_dir": None}
    head = {"flags": flags | {"overwrite": True, "resume": False}, "versions": {"backend": "jax"}}
    assert shlex.split(" ".join(facts.command(head))) == [
        *("KERAS_BACKEND=jax", "adprune-train", "--network=VGG19", "--dataset=my data/x'1.npz"),
        *("--noprune", "--backup", "--widths=8,4", "--include=a,b", "--include=c d", "--export="),
        "--seed=0",
    ]
    assert facts.command({"flags": {"dataset": "x"}}) == ["adprune-train", "--dataset=x"]


def test_markdown_for_a_pull_request():
    one = shown(*pruned(), export={"onnx": ROW}, dataset="```")
    text = page.markdown([one, shown(net_entry(), name="two")])
    lines = text.splitlines()
    assert lines[0] == "## Runs compared"
    assert [line.split("|")[1].strip() for line in lines if "VGG19" in line and "|" in line] == [
        "one",
        "two",
    ]
    assert any(line.startswith("| onnx   | model.onnx | verified | 442 kB |") for line in lines)
    fences = [line for line in lines if line.startswith("```")]
    assert fences[:2] == ["````sh", "````"] and fences[2:] == ["```sh", "```"]
    json.dumps(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (441_965, "442 kB"), (999_521, "1 MB"), (2_450_000, "2.45 MB")],
)
def test_sizes(count, text):
    assert facts.size(count) == text
