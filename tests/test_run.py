import json
import os
import zipfile

import keras
import numpy as np
import pytest
from toys import header, net_entry

from adprune_keras.files import limits
from adprune_keras.files.atomic import TEMPORARY, atomic, tidy, write_text
from adprune_keras.prune.schedule import Epochs
from adprune_keras.record.directory import (
    check_directory,
    create_directory,
    load_model,
    model_path,
    read_maps,
    save_maps,
)
from adprune_keras.record.entry import add_epoch, epoch_entry
from adprune_keras.record.entry import net_entry as as_recorded
from adprune_keras.record.lines import append_record, read_record, read_run, run_flags, write_record
from adprune_keras.train.settings import Run


def test_atomic_write_replaces_whole_files_only(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic(path) as temporary:
        temporary.write_text("half of the new")
        raise KeyError
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_create_refuses_a_directory_that_holds_a_run(tmp_path):
    directory = create_directory(tmp_path / "runs" / "one")
    create_directory(directory)  # an empty one is fine
    write_record(directory, [{"kind": "run", "schema": 1}])
    (directory / "mine.txt").write_text("not of the run")
    with pytest.raises(ValueError, match=r"already holds a run \(record.jsonl\).*--overwrite"):
        create_directory(directory)
    assert (directory / "record.jsonl").exists()
    create_directory(directory, overwrite=True)
    assert os.listdir(directory) == ["mine.txt"]


def test_create_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a directory. Received: the file"):
        create_directory(tmp_path / "file")


def test_record_reads_back_and_holds_no_bare_nan(tmp_path):
    logs = {"loss": [1.5, float("nan"), float("inf")]}
    net = net_entry(epochs=3, logs=logs, densities={"a": (0.5, 0.5, -np.inf)})
    write_record(tmp_path, [header(), net])
    text = (tmp_path / "record.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text.splitlines()[1])["logs"]["loss"] == [1.5, None, None]
    assert read_record(tmp_path)[1]["densities"] == {"a": [0.5, 0.5, None]}


def lines(directory):
    return (directory / "record.jsonl").read_bytes()


def test_record_grows_line_by_line_and_is_readable_at_any_time(tmp_path):
    """net0 trains two epochs and is pruned; net1 is in its second epoch when the process is killed."""
    net0 = net_entry(0, 0, 0, "training", logs={}, densities={})
    write_record(tmp_path, [header(), as_recorded(net0)])
    before = lines(tmp_path)
    assert read_run(tmp_path).nets == []  # it has not trained yet
    for loss in (3.0, float("nan")):
        add_epoch(net0, {"loss": loss}, {"a": 0.5})
        append_record(tmp_path, epoch_entry(net0))
        assert lines(tmp_path).startswith(before)
        before = lines(tmp_path)
    (found,) = read_run(tmp_path).nets
    assert (found["kind"], found["outcome"], found["epochs"]) == ("net", "training", 2)
    assert found["logs"] == {"loss": [3.0, None]}

    net0["outcome"] = "pruned"
    append_record(tmp_path, as_recorded(net0))
    net1 = net_entry(1, 2, 0, "training", logs={}, densities={})
    append_record(tmp_path, as_recorded(net1))
    add_epoch(net1, {"loss": 1.0})
    append_record(tmp_path, epoch_entry(net1))
    found = read_run(tmp_path)
    assert [(n["net"], n["outcome"], n["epochs"]) for n in found.nets] == [
        (0, "pruned", 2),
        (1, "training", 1),
    ]
    assert found.result is None

    # the last net ends twice: pruned at its last epoch, but training ended first
    for outcome in ("pruned", "final"):
        append_record(tmp_path, as_recorded(net1 | {"outcome": outcome}))
    append_record(tmp_path, {"kind": "result", "epochs": 3, "val_accuracy": None})
    found = read_run(tmp_path)
    assert [n["outcome"] for n in found.nets] == ["pruned", "final"]
    assert found.result["epochs"] == 3


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_half_written_last_line_is_left_out_with_a_warning(tmp_path, cut):
    write_record(tmp_path, [header(), net_entry(0), net_entry(1, 2)])
    (tmp_path / "record.jsonl").write_bytes(lines(tmp_path)[: -1 - cut])
    with pytest.warns(UserWarning, match=r"record.jsonl ends in a half-written line, which is left out"):
        assert [n["net"] for n in read_run(tmp_path).nets] == [0]


def test_half_written_line_that_is_not_the_last_is_damage(tmp_path):
    write_record(tmp_path, [header(), net_entry(0)])
    (tmp_path / "record.jsonl").write_bytes(lines(tmp_path)[:-9] + b"\n" + b'{"kind": "result"}\n')
    with pytest.raises(ValueError, match="record of a run is damaged"):
        read_record(tmp_path)


def test_line_that_cannot_be_written_leaves_the_record_as_it_was(tmp_path, monkeypatch):
    write_record(tmp_path, [header()])
    before = lines(tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        append_record(tmp_path, net_entry())
    assert lines(tmp_path) == before


FIRST_VERSION = """\
{"kind": "run", "schema": 1, "versions": {"keras": "3.15.1"}, "flags": {"network": "VGG11", \
"dataset": "digits", "prune_at": ["2"]}, "data": {"classes": 10, "train_examples": 300}}
{"kind": "net", "net": 0, "start": 0, "epochs": 1, "widths": {"conv": 4}, "cost": null, \
"ops_reduction": null, "params_reduction": null, "logs": {"loss": [2.5]}, "densities": {}, \
"channel_densities": {}, "profile": "unknown", "outcome": "final", "reason": ""}
{"kind": "result", "fit_seconds": 6.5, "epochs": 1, "loss": 2.5}
"""


def test_record_of_the_first_version_is_readable(tmp_path):
    (tmp_path / "record.jsonl").write_text(FIRST_VERSION)
    found = read_run(tmp_path)
    assert (found.nets[0]["widths"], found.result["fit_seconds"]) == ({"conv": 4}, 6.5)
    values = run_flags(found)  # what it does not say is at its default
    run = Run.of(values)
    assert (run.network.network, run.training.batch_size, run.source.download) == ("VGG11", 128, False)
    assert run.schedule == Epochs((2,))


def test_epoch_that_does_not_measure_all_leaves_a_gap():
    net = net_entry(epochs=0, logs={}, densities={})
    for logs in ({"loss": 3}, {"loss": 2, "val_loss": 4}, {"loss": 1}):
        add_epoch(net, logs)
    assert net["logs"] == {"loss": [3.0, 2.0, 1.0], "val_loss": [None, 4.0, None]}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"kind": "net"}', '{"kind": "run", "schema": "1"}', "null", "\xff"]
)
def test_damaged_record(tmp_path, text):
    (tmp_path / "record.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"record of a run is damaged. Received: .*record.jsonl"):
        read_record(tmp_path)


def test_not_a_run_directory(tmp_path):
    with pytest.raises(ValueError, match="is not a run directory: it has no record.jsonl"):
        read_record(tmp_path)
    with pytest.raises(ValueError, match="is not a run directory"):
        read_record(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="A run directory needs a name. Received: ''"):
        check_directory("")
    with pytest.raises(ValueError, match=r"has no final.keras: did its training end\?"):
        model_path(tmp_path)


def test_newer_schema(tmp_path):
    write_record(tmp_path, [{"kind": "run", "schema": 99, "unknown": {}}])
    with pytest.raises(ValueError, match="has schema 99, and this version reads up to 1. Update"):
        read_record(tmp_path)


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "model.keras", "absent.keras"])
def test_models_that_are_not_loaded(tmp_path, name):
    """HDF5, also under another name."""
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    with pytest.raises(ValueError, match=rf"must be an existing .keras file. Received: .*{name}"):
        load_model(tmp_path / name)


def test_model_that_would_run_code_is_not_loaded(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"must be an existing .keras file.*Lambda"):
        load_model(tmp_path / "a.keras")


def test_model_that_unpacks_beyond_memory_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "memory", lambda: 2000)
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 1001)
    with pytest.raises(ValueError, match=r"its members would take 1,001 bytes, and 1,000 are allowed"):
        load_model(tmp_path / "a.keras")


def test_maps_are_bounded(tmp_path, monkeypatch):
    for array in (np.ones(3), np.ones((0, 2)), np.array([["a"]]), np.ones((1, 1), complex)):
        save_maps(tmp_path, {"net0": {"relu": array}})
        with pytest.raises(ValueError, match=r"maps of a run are damaged.*'net0\|relu' has shape"):
            read_maps(tmp_path)
    save_maps(tmp_path, {"net0": {"relu": np.ones((8, 8), "uint8")}})
    assert read_maps(tmp_path)["net0"]["relu"].sum() == 64
    monkeypatch.setattr(
        "adprune_keras.record.directory._MOST_MAPS", 191
    )  # 64 bytes, and 128 of a header
    with pytest.raises(ValueError, match="would take 192 bytes, and 191 are allowed"):
        read_maps(tmp_path)


@pytest.fixture(params=["overwrite", "resume"])
def again(request):
    """How a run that is there is replaced, or goes on."""
    return {request.param: True}


def a_run(directory):
    """A run that was exported, with files of its user's beside its own."""
    (directory / "export").mkdir(parents=True)
    (directory / "tensorboard/net0").mkdir(parents=True)
    (directory / "tensorboard/theirs").mkdir()
    write_record(directory, [header(), net_entry()])
    row = {"bytes": 1, "problems": []}
    rows = {"onnx": {"file": "model.onnx"} | row, "tflite": {"file": "../mine.txt"} | row}
    (directory / "export/export.json").write_text(json.dumps(rows))
    own = [
        "summary.md",
        "export/model.onnx",
        "export/README_model.md",
        "tensorboard/net0/events.out.tfevents.1",
    ]
    theirs = ["mine.txt", "export/model.tflite", "export/notes.txt", ".tmp-notes", "backup.zip"]
    theirs += ["tensorboard/theirs/events.out.tfevents.1", "tensorboard/net0/notes.txt"]
    for name in own + theirs:
        (directory / name).write_text("text")
    return own, theirs


def test_only_files_that_the_run_names_go(tmp_path, again):
    own, theirs = a_run(tmp_path)
    create_directory(tmp_path, **again)
    assert all((tmp_path / name).read_text() == "text" for name in theirs)
    left = [name for name in [*own, "record.jsonl", "export/export.json"] if (tmp_path / name).exists()]
    assert left == ([] if "overwrite" in again else ["tensorboard/net0/events.out.tfevents.1"])


def test_files_of_an_export_without_a_readable_report_stay(tmp_path, again):
    a_run(tmp_path)
    (tmp_path / "export/export.json").write_text("{")
    create_directory(tmp_path, **again)
    assert sorted(os.listdir(tmp_path / "export")) == ["model.onnx", "model.tflite", "notes.txt"]


@pytest.mark.parametrize(
    "name",
    ["record.jsonl", "final.keras", "export", "backup", "report", "tensorboard", "tensorboard/net0"],
)
def test_links_are_not_followed(tmp_path, again, name):
    theirs, directory = tmp_path / "theirs", tmp_path / "run"
    theirs.mkdir()
    for file in ("thesis.tex", "a.backup", "export.json", "model.onnx", "events.out.tfevents.1"):
        (theirs / file).write_text("years")
    directory.mkdir()
    write_record(directory, [header()])
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(theirs)
    with pytest.raises(ValueError, match=rf"Links are not followed.*Received: .*{name}, a link to"):
        create_directory(directory, **again)
    assert all(file.read_text() == "years" for file in theirs.iterdir())


def test_a_linked_record_is_not_written_through(tmp_path):
    (tmp_path / "thesis").write_text("years")
    (tmp_path / "record.jsonl").symlink_to(tmp_path / "thesis")
    with pytest.raises(ValueError, match="Links are not followed"):
        append_record(tmp_path, net_entry())
    write_record(tmp_path, [header()])  # takes the place of the link
    assert (tmp_path / "thesis").read_text() == "years"


def test_a_directory_without_a_run_is_left_alone(tmp_path, again):
    (tmp_path / "summary.md").write_text("mine")
    with pytest.raises(ValueError, match="holds no run .*summary.md. They may be yours"):
        create_directory(tmp_path, **again)
    assert (tmp_path / "summary.md").read_text() == "mine"


def test_what_a_killed_write_left_goes_and_nothing_behind_it(tmp_path):
    with atomic(tmp_path / "file") as temporary:
        prefix = temporary.name[: len(TEMPORARY)]
        temporary.write_text("")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis").write_text("years")
    (tmp_path / f"{prefix}folder/inner").mkdir(parents=True)
    (tmp_path / f"{prefix}link").symlink_to(tmp_path / "theirs")
    (tmp_path / f"{prefix}file").write_text("")
    tidy(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "theirs"]
    assert (tmp_path / "theirs/thesis").exists()


def test_a_record_starts_no_download(tmp_path):
    write_record(tmp_path, [header(download=True, data_dir="/data"), net_entry()])
    values = run_flags(read_run(tmp_path))
    assert (values["download"], values["data_dir"]) == (False, "/data")
    write_record(tmp_path, [header(data_dir="gs://theirs/data"), net_entry()])
    with pytest.raises(ValueError, match="read from this machine.*gs://theirs/data"):
        run_flags(read_run(tmp_path))
