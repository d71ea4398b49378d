import os
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

from adprune_keras import report, run


def net(index, start, outcome, measured=True):
    return {
        "kind": "net",
        "net": index,
        "start": start,
        "epochs": 3,
        "widths": {"a": 8, "b": 4},
        "ops_reduction": {"paper": 1.0 + index, "deployed": 1.0 + index},
        "params_reduction": {"paper": 1.0 + index, "deployed": 1.0 + index},
        "logs": {"val_accuracy": [0.1, 0.2, None]}
        | ({"activation_density": [0.5, 0.4, 0.3]} if measured else {}),
        "densities": {"a": [0.5, 0.4, 0.3], "b": [0.1, 0.1, 0.1]} if measured else {},
        "profile": "convex",
        "outcome": outcome,
        "reason": "",
    }


def write_run(directory, *nets):
    flags = {"network": "VGG19", "dataset": "x.npz", "width_scale": 0.25, "train_examples": None}
    header = {"kind": "run", "schema": 1, "flags": flags, "data": {"classes": 10, "train_examples": 5}}
    directory.mkdir()
    run.write_record(directory, [header, *nets])
    return directory


def test_everything_from_a_run_directory_alone(tmp_path):
    one = write_run(tmp_path / "one", net(0, 0, "pruned"), net(1, 3, "final"))
    maps = {"net0": {"image": np.ones((4, 4)), "a/relu": np.ones((4, 4))}, "net1": {"image": np.eye(4)}}
    run.save_maps(one, maps)
    back = run.read_maps(one)
    assert [list(m) for m in back.values()] == [["image", "a/relu"], ["image"]]
    np.testing.assert_array_equal(back["net1"]["image"], np.eye(4))
    written = report.write([one])
    names = {path.name for path in written}
    assert names == set(os.listdir(one / "report"))
    assert names == {"tables.md", *(f"table{i}.csv" for i in range(1, 5))} | {
        f"figure{i}.{suffix}" for i in (1, 2, 4, 5) for suffix in ("png", "svg")
    }
    for path in written:
        if path.suffix == ".svg":
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
        assert path.stat().st_size > 100
    assert "| one (VGG19, x, widths x 0.25) | net1 |" in (one / "report" / "tables.md").read_text()


def test_several_runs_side_by_side(tmp_path):
    one = write_run(tmp_path / "one", net(0, 0, "pruned"), net(1, 3, "final"))
    dense = write_run(tmp_path / "dense", net(0, 0, "final", measured=False))
    names = {path.stem for path in report.write([one, dense], tmp_path / "both")}
    assert names == {
        *("tables", "table1", "table2", "table3", "table4", "figure4"),
        *("figure2_one", "figure2_dense", "figure1_one"),  # no AE in a dense run
    }


def test_what_is_no_run_is_refused_and_nothing_written(tmp_path):
    empty = write_run(tmp_path / "empty")
    with pytest.raises(ValueError, match="hold no net that trained: .*empty"):
        report.write([empty])
    assert os.listdir(empty) == ["record.jsonl"]
    one = write_run(tmp_path / "one", net(0, 0, "final"))
    (one / "maps.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match=r"activation maps of a run are damaged. Received: .*maps.npz"):
        report.write([one])
    command = [sys.executable, "-m", "adprune_keras.report", f"--run_dir={tmp_path / 'nowhere'}"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "nowhere is not a run directory" in found.stderr
