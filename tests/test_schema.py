import copy
import json

import pytest
from toys import header, net_entry

from adprune_keras.record import schema
from adprune_keras.record.lines import read_record, write_record

EPOCH = {"kind": "epoch", "start": 0, "logs": {"loss": 1.0}, "densities": {"a": None}}
RESULT = {"kind": "result", "epochs": 3, "fit_seconds": 1.5, "val_accuracy": None}


def full_net():
    cost = {"macs": 10, "params": 5}
    return net_entry(
        cost={"paper": cost, "deployed": cost},
        channel_densities={"a": [0.5, None]},
        kept_channels={"a": [0, 2, 3]},
        rebuild_seconds=None,
        retrace_seconds=0.1,
    )


@pytest.mark.parametrize("entry", [header(), full_net(), EPOCH, RESULT, {"kind": "result"}])
def test_what_is_written_is_accepted(entry):
    schema.check(entry)
    schema.check(entry | {"something": "new"})


@pytest.mark.parametrize("entry", [header(widths=["4"]), full_net(), EPOCH])
def test_fields_that_are_needed(entry):
    for name in entry.keys() - {"kind", "cost", "channel_densities", "kept_channels", "profile"}:
        if not name.endswith("seconds"):
            with pytest.raises(ValueError, match=f"a line of kind '{entry['kind']}' has no {name}"):
                schema.check({k: v for k, v in entry.items() if k != name})


WRONG = (None, True, -1, 1.5, 10**30, float("nan"), "x", [], {}, [[]], ["x"], {"a": "x"}, {"a": [{}]})


@pytest.mark.parametrize("entry", [header(), full_net(), EPOCH, RESULT])
def test_no_field_takes_every_type(entry):
    """Each field that somebody reads refuses most of the things that it is not."""
    for name in entry.keys() - {"kind"}:
        refused = 0
        for value in WRONG:
            try:
                schema.check(copy.deepcopy(entry) | {name: value})
            except ValueError as e:
                assert str(e)
                refused += 1
        assert refused >= 8, (name, refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "3"}, "`epochs` in a line of kind 'net' is '3'"),
        ({"net": -1}, "`net` in a line of kind 'net' is -1"),
        ({"widths": {"a": 0}}, "`widths`"),
        ({"widths": {"\ud800": 1}}, "`widths`"),
        ({"ops_reduction": {"paper": 1.0}}, "`ops_reduction`"),
        ({"ops_reduction": {"paper": 0.0, "deployed": 1.0}}, "`ops_reduction`"),
        ({"logs": {"loss": [1e39]}}, "`logs`"),
        ({"kept_channels": {"a": [0, 2, 2]}}, "`kept_channels`"),
        ({"kept_channels": {"a": [-1]}}, "`kept_channels`"),
        ({"outcome": "lost"}, "`outcome` in a line of kind 'net' is 'lost'"),
        ({"reason": "x" * 5000}, "`reason` in a line of kind 'net' is 'xxx.*[.][.][.]$"),
        ({"kind": "other"}, "a line is no object with a `kind` among"),
        ({"other": [[[[[[[[]]]]]]]]}, "a line is nested more than 8 levels deep"),
    ],
)
def test_wrong_fields_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        schema.check(full_net() | changes)


def test_wrong_flags_are_named():
    with pytest.raises(ValueError, match="`batch_size` in the flags of a run is '128'"):
        schema.check(header(batch_size="128"))
    with pytest.raises(ValueError, match="the flags of a run has no dataset"):
        schema.check(header() | {"flags": {"network": "VGG11"}})


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([net_entry(i % 9, i, 1) for i in range(1001)], "1,001 nets, and 1,000 are allowed"),
        (
            [net_entry(0, i, 50_001, logs={}, densities={}) for i in (0, 50_001)],
            "100,002 epochs, and 100,000",
        ),
        (
            [net_entry(0, 0, 0, logs={}, densities={str(i): [] for i in range(10_001)})],
            "10,001 layers in all nets, and 10,000",
        ),
        (
            [net_entry(0, 0, 50_000, logs={}, densities={str(i): [] for i in range(101)})],
            "5,050,000 values, and 5,000,000",
        ),
        (
            [net_entry(i, 2 * i, kept_channels={"a": range(1 << 20)}) for i in range(5)],
            "5,242,880 kept channels, and 5,000,000",
        ),
        ([net_entry(1, 0, 3, densities={"a": [0.5]})], "net1 has 3 epochs and a series of 1 values"),
    ],
)
def test_too_much_to_show(nets, message):
    with pytest.raises(ValueError, match=message):
        schema.check_nets(nets)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"kind": "result", "epochs": ' + "9" * 5000 + "}",
        '{"kind": "result", "fit_seconds": NaN}',
        '{"kind": "result", "fit_seconds": -Infinity}',
        '{"kind": "result", "fit_seconds": 1e999}',
        '{"kind": "epoch", "start": 0, "logs": {}, "densities": {}}',  # of which net?
        '{"kind": "result"}\n{"kind": "result"}',
    ],
)
def test_hostile_lines(tmp_path, line):
    write_record(tmp_path, [header(), net_entry()])
    with (tmp_path / "record.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"record of a run is damaged. Received: .*record.jsonl: "):
        read_record(tmp_path)


def test_sizes_of_lines_and_file(tmp_path, monkeypatch):
    write_record(tmp_path, [header(), net_entry(reason="x" * 1000)])
    size = (tmp_path / "record.jsonl").stat().st_size
    monkeypatch.setattr("adprune_keras.record.lines._MOST_LINE", 1000)
    with pytest.raises(ValueError, match=r"a line would take 1,001 bytes, and 1,000 are allowed"):
        read_record(tmp_path)
    monkeypatch.setattr("adprune_keras.record.lines._MOST_RECORD", size - 1)
    with pytest.raises(ValueError, match=f"it would take {size:,} bytes"):
        read_record(tmp_path)


def test_epochs_that_each_bring_new_names(tmp_path):
    """Every name costs a value in every epoch: here that would be 20 million."""
    write_record(tmp_path, [header(), net_entry(0, 0, 0, "training", kind="start", logs={})])
    for epoch in range(200):
        logs = dict.fromkeys((f"{epoch}_{i}" for i in range(1000)), 1.0)
        with (tmp_path / "record.jsonl").open("a") as file:
            file.write(json.dumps(EPOCH | {"logs": logs, "densities": {}}) + "\n")
    with pytest.raises(ValueError, match="values, and 5,000,000 are allowed"):
        read_record(tmp_path)


def test_export_reports():
    row = {"file": "model.onnx", "bytes": 5, "problems": []}
    schema.check_export({"onnx": row | {"accuracy": None, "something": "new"}, "tflite": row})
    for wrong in (
        [row],
        {"onnx": None},
        {"onnx": row | {"bytes": "5"}},
        {"onnx": row | {"problems": "none"}},
        {"onnx": row | {"accuracy": float("nan")}},
        {"onnx": {"file": "x", "bytes": 1}},
        {str(i): row for i in range(101)},
    ):
        with pytest.raises(ValueError):
            schema.check_export(wrong)


def test_costs_of_layers():
    cost = {"macs": 8, "params": 2, "bias": 1, "owns_width": True}
    schema.check(net_entry(layer_costs={"a": cost}))
    schema.check(net_entry(layer_costs=None))
    for wrong in ({"a": None}, {"a": cost | {"macs": -1}}, {"a": cost | {"owns_width": 1}}, {"a": {}}):
        with pytest.raises(ValueError, match="`layer_costs` in a line of kind 'net'"):
            schema.check(net_entry(layer_costs=wrong))
    many = dict.fromkeys(map(str, range(60_000)), cost)
    with pytest.raises(ValueError, match="120,004 widths and costs of layers, and 100,000 are allowed"):
        schema.check_nets([net_entry(layer_costs=many), net_entry(1, 2, layer_costs=many)])
