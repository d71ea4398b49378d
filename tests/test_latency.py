"""Times themselves are not asserted: they are the machine's. That they belong to the right files is."""

import pathlib
import subprocess
import sys

import keras
import pytest
from toys import plain_cnn

pytest.importorskip("tf2onnx")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export needs the converters", allow_module_level=True)

from adprune_keras.export import export_model, latency

from adprune_keras import cost, ops_reduction, resize

WIDTHS = {"conv1": 5, "conv2": 7, "hidden": 9}
NEAREST = {"conv1": 8, "conv2": 8, "hidden": 8}


def test_files_are_timed_beside_the_network_before_and_beside_round_widths(tmp_path):
    baseline = plain_cnn(16)
    pruned = resize(baseline, WIDTHS)
    report = export_model(pruned, tmp_path, ["onnx", "tflite"])
    found = latency.compare(pruned, baseline, tmp_path, ["all"], rounds=20)
    costs = {
        "before": cost(baseline),
        "pruned": cost(pruned),
        "round_to=8": cost(resize(baseline, NEAREST)),
    }
    assert found["nets"] == {
        who: {"macs": c.deployed.macs, "params": c.deployed.params} for who, c in costs.items()
    }
    assert found["ops_reduction"]["paper"] == ops_reduction(costs["before"], costs["pruned"], "paper")
    assert list(found["formats"]) == ["onnx", "tflite"]
    for name, rows in found["formats"].items():
        assert list(rows) == list(costs)
        assert rows["pruned"]["bytes"] == report[name]["bytes"]
        assert rows["pruned"]["bytes"] < rows["round_to=8"]["bytes"] < rows["before"]["bytes"]
        assert rows["before"]["times_as_fast"] == 1
        assert all(0 < row["p50"] <= row["p90"] for row in rows.values())
        if sys.platform == "linux":
            assert all(row["peak_bytes"] > 0 for row in rows.values())
    text = latency.summary(found)
    assert f"{costs['before'].deployed.macs:,}" in text
    assert "paper count / deployed count" in text


def test_the_stopwatch_holds_a_runtime_and_nothing_else():
    code = """
import runpy, sys
files = runpy.run_path(sys.argv[1])["runtimes"]()
files[sys.argv[2]].load()
heavy = ("adprune_keras", "keras", "tensorflow", "onnx", "onnxruntime", "ai_edge_litert")
print([name for name in heavy if name in sys.modules])
"""
    script = pathlib.Path(latency.__file__).with_name("stopwatch.py")
    for name, package in (("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")):
        command = [sys.executable, "-P", "-c", code, str(script), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"['{package}']\n"


def test_widths_that_are_round_need_no_third_net(tmp_path):
    baseline = plain_cnn(16)
    pruned = resize(baseline, NEAREST)
    settings = {"batch_size": 1, "normalization": ([127.0], [64.0])}
    export_model(pruned, tmp_path, ["tflite_float16"], **settings)
    found = latency.compare(pruned, baseline, tmp_path, ["tflite_float16"], rounds=5, **settings)
    assert list(found["formats"]["tflite_float16"]) == ["before", "pruned"]
    assert "round_to" not in latency.summary(found)


def test_each_file_gets_its_own_times(tmp_path, monkeypatch):
    baseline = plain_cnn(16)
    pruned = resize(baseline, WIDTHS)
    export_model(pruned, tmp_path, ["tflite"])
    taken = {"before": [8.0, 6.0, 30.0], "round_to=8": [1.0, 2.0, 3.0], "pruned": [2.0, 3.0, 10.0]}

    def stopwatch(job):
        who = [next((w for w in taken if w in path), "pruned") for path in job["files"]]
        peak = 100 if who == ["pruned"] else 200
        return {"milliseconds": [taken[w] for w in who], "peak_bytes": peak, "pinned": False}

    monkeypatch.setattr(latency, "_stopwatch", stopwatch)
    found = latency.compare(pruned, baseline, tmp_path, ["tflite"])
    rows = found["formats"]["tflite"]
    assert {who: row["p50"] for who, row in rows.items()} == {
        "before": 8.0,
        "pruned": 3.0,
        "round_to=8": 2.0,
    }
    assert {who: row["times_as_fast"] for who, row in rows.items()} == {
        "before": 1.0,
        "pruned": 3.0,  # of 4, 2, 3
        "round_to=8": 8.0,  # of 8, 3, 10
    }
    assert rows["round_to=8"]["gain"] == 2.0  # of 2, 1.5, 3.33
    assert rows["pruned"]["p90"] == pytest.approx(8.6)
    assert (rows["pruned"]["peak_bytes"], rows["before"]["peak_bytes"]) == (100, 200)
    assert not found["pinned"]


@pytest.mark.parametrize(("times", "advised"), [(1.2, True), (1.02, False), (0.8, False)])
def test_rounding_is_advised_where_it_was_measured_to_pay(times, advised):
    row = {"bytes": 1, "p50": 1.0, "p90": 1.0, "peak_bytes": None, "times_as_fast": 1.0}
    rows = {"before": row, "pruned": row | {"times_as_fast": 2.0}}
    found = {
        "cpu": "a CPU",
        "versions": {"onnxruntime": "1"},
        "pinned": True,
        "nets": {who: {"macs": 1, "params": 1} for who in ("before", "pruned", "round_to=8")},
        "ops_reduction": {"paper": 4.0, "deployed": 3.5},
        "params_reduction": {"paper": 5.0, "deployed": 4.5},
        "formats": {"onnx": rows | {"round_to=8": row | {"gain": times}}},
    }
    text = latency.summary(found)
    assert ("Train with `round_to=8`" in text) == advised
    assert "4.00x / 3.50x" in text


def test_what_cannot_be_compared_is_said(tmp_path):
    baseline = plain_cnn(16)
    pruned = resize(baseline, WIDTHS)
    with pytest.raises(ValueError, match="No exported file to time"):
        latency.compare(pruned, baseline, tmp_path, ["onnx"])
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"not the network .* Received: \['conv1', 'conv2', 'hidden'\]"):
        latency.compare(baseline, pruned, tmp_path, ["onnx"])
    with pytest.raises(RuntimeError, match=r"Timing ended with exit status 1: .*model\.onnx"):
        latency.compare(pruned, baseline, tmp_path, ["onnx"])
