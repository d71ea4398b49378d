import os
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from toys import header, net_entry

from adprune_keras.record.directory import read_maps, save_maps
from adprune_keras.record.entry import net_entry as as_recorded
from adprune_keras.record.lines import append_record, write_record
from adprune_keras.report.write import write_report


def net(index, start, outcome, measured=True, **fields):
    logs = {"val_accuracy": [0.1, 0.2, None]}
    logs |= {"activation_density": [0.5, 0.4, 0.3]} if measured else {}
    unmeasured = {} if measured else {"densities": {}}
    return net_entry(index, start, 3, outcome, **({"logs": logs} | unmeasured | fields))


def write_run(directory, *nets):
    directory.mkdir()
    write_record(directory, [header(width_scale=0.25, train_examples=None), *nets])
    return directory


def test_everything_from_a_run_directory_alone(tmp_path):
    one = write_run(tmp_path / "one", net(0, 0, "pruned"), net(1, 3, "final"))
    maps = {"net0": {"image": np.ones((4, 4)), "a/relu": np.ones((4, 4))}, "net1": {"image": np.eye(4)}}
    save_maps(one, maps)
    back = read_maps(one)
    assert [list(m) for m in back.values()] == [["image", "a/relu"], ["image"]]
    np.testing.assert_array_equal(back["net1"]["image"], np.eye(4))
    written = write_report([one])
    names = {path.name for path in written}
    assert names == set(os.listdir(one / "report"))
    assert names == {"index.html", "report.md", "tables.md", *(f"table{i}.csv" for i in range(1, 5))} | {
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
    names = {path.stem for path in write_report([one, dense], tmp_path / "both")}
    assert names == {
        *("index", "report", "tables", "table1", "table2", "table3", "table4", "figure4"),
        *("figure2_one", "figure2_dense", "figure1_one"),  # no AE in a dense run
    }


def test_what_is_no_run_is_refused_and_nothing_written(tmp_path):
    empty = write_run(tmp_path / "empty")
    with pytest.raises(ValueError, match="hold no net that trained: .*empty"):
        write_report([empty])
    assert os.listdir(empty) == ["record.jsonl"]
    one = write_run(tmp_path / "one", net(0, 0, "final"))
    (one / "maps.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match=r"activation maps of a run are damaged. Received: .*maps.npz"):
        write_report([one])
    (one / "maps.npz").unlink()
    (one / "export").mkdir()
    (one / "export" / "export.json").write_text('{"onnx": {"file": "model.onnx", "bytes": -1}}')
    with pytest.raises(
        ValueError, match="export report of a run is damaged. .*format 'onnx' has no prob"
    ):
        write_report([one])
    assert not (one / "report").exists()
    command = [sys.executable, "-m", "adprune_keras.cli.report", f"--run_dir={tmp_path / 'nowhere'}"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "nowhere is not a run directory" in found.stderr


def test_run_that_trains_or_was_killed(tmp_path):
    """Its record ends in a net's start, two epochs, and half of a third."""
    one = write_run(tmp_path / "one", net(0, 0, "pruned"))
    second = net_entry(1, 3, 0, "training", logs={}, densities={})
    append_record(one, as_recorded(second))
    with (one / "record.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "start": 3, "logs": {"val_accuracy": 0.5}, "densities": {}}\n' * 2)
        file.write('{"kind": "epoch", "start"')
    with pytest.warns(UserWarning, match="half-written line"):
        write_report([one])
    table = (one / "report" / "tables.md").read_text()
    assert [line.split("|")[2:5] for line in table.splitlines() if "| net" in line][1:3] == [
        [" net0 ", " [8, 4]        ", " n/a      "],
        [" net1 ", " [8, 4]        ", " 50.00 %  "],
    ]


def test_names_from_files_are_text_and_nothing_else(tmp_path):
    """Formulas that do not parse, Markdown and HTML, in every name that a record or a directory has."""
    evil = "|`<b>$\\frac{1}$`|\n# x"
    one = write_run(tmp_path / "$\\frac$ |`a", net(0, 0, "final", widths={evil: 8}, reason=evil))
    text = (one / "record.jsonl").read_text()
    (one / "record.jsonl").write_text(text.replace("x.npz", "<script>|\\nx"))
    save_maps(one, {"net0": {"$\\frac$": np.ones((2, 2)), evil: np.ones((2, 2))}})
    written = write_report([one, one], tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(p.name for p in written)
    assert len(written) == len(set(written)) == 9 + 2 * 3 * 2
    table = (tmp_path / "out" / "tables.md").read_text()
    rows = [line for line in table.splitlines() if "script" in line]
    assert len(rows) == 4  # Table I and II of two runs
    assert all(r"$\\frac$ \|\`a (VGG19, \<script>\| x, " in row for row in rows)
