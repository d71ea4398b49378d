import json
import os

import pytest

from adprune_keras import run


def test_atomic_write_replaces_whole_files_only(tmp_path):
    path = tmp_path / "a.txt"
    run.write_text(path, "old")
    with pytest.raises(KeyError), run.atomic(path) as temporary:
        temporary.write_text("half of the new")
        raise KeyError
    assert path.read_text() == "old"
    run.write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_create_refuses_a_directory_that_holds_a_run(tmp_path):
    directory = run.create(tmp_path / "runs" / "one")
    run.create(directory)  # an empty one is fine
    run.write_record(directory, [{"kind": "run", "schema": 1}])
    (directory / "mine.txt").write_text("not of the run")
    with pytest.raises(ValueError, match=r"already holds a run \(record.jsonl\).*--overwrite"):
        run.create(directory)
    assert (directory / "record.jsonl").exists()
    run.create(directory, overwrite=True)
    assert os.listdir(directory) == ["mine.txt"]


def test_create_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a directory. Received: the file"):
        run.create(tmp_path / "file")


def test_record_reads_back_and_holds_no_bare_nan(tmp_path):
    entries = [
        {"kind": "run", "schema": 1, "flags": {"a": None}},
        {"kind": "net", "logs": {"loss": [1.5, float("nan"), float("inf")]}, "shape": (1, 2)},
    ]
    run.write_record(tmp_path, entries)
    lines = (tmp_path / "record.jsonl").read_text().splitlines()
    assert "NaN" not in lines[1]
    assert json.loads(lines[1])["logs"]["loss"] == [1.5, None, None]
    assert run.read_record(tmp_path)[1]["shape"] == [1, 2]


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"kind": "net"}', '{"kind": "run", "schema": "1"}', "null", "\xff"]
)
def test_damaged_record(tmp_path, text):
    (tmp_path / "record.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"record of a run is damaged. Received: .*record.jsonl"):
        run.read_record(tmp_path)


def test_not_a_run_directory(tmp_path):
    with pytest.raises(ValueError, match="is not a run directory: it has no record.jsonl"):
        run.read_record(tmp_path)
    with pytest.raises(ValueError, match="is not a run directory"):
        run.read_record(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no final.keras: did its training end\?"):
        run.model_path(tmp_path)


def test_newer_schema(tmp_path):
    run.write_record(tmp_path, [{"kind": "run", "schema": 99}])
    with pytest.raises(ValueError, match="has schema 99, and this version reads up to 1. Update"):
        run.read_record(tmp_path)
