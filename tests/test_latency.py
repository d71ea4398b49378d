"""Times themselves are not asserted: they are the machine's. That they belong to the right files is."""

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


def test_widths_that_are_round_need_no_third_net(tmp_path):
    baseline = plain_cnn(16)
    pruned = resize(baseline, NEAREST)
    settings = {"batch_size": 1, "normalization": ([127.0], [64.0])}
    export_model(pruned, tmp_path, ["tflite_float16"], **settings)
    found = latency.compare(pruned, baseline, tmp_path, ["tflite_float16"], rounds=5, **settings)
    assert list(found["formats"]["tflite_float16"]) == ["before", "pruned"]
    assert "round_to" not in latency.summary(found)


@pytest.mark.parametrize(("times", "advised"), [(2.4, True), (2.05, False), (1.5, False)])
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
        "formats": {"onnx": rows | {"round_to=8": row | {"times_as_fast": times}}},
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
    with pytest.raises(RuntimeError, match="could not be timed"):
        latency.compare(pruned, baseline, tmp_path, ["onnx"])
