"""`adprune-train` killed, starved of disk and started again: short versions of benchmarks/faults.py."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("forks processes, which JAX and PyTorch do not allow", allow_module_level=True)


def carry_out(which, folder):
    """Let the harness, in a process of its own, do its short faults or its many kills."""
    harness = pathlib.Path(__file__).parent / "harness.py"
    ended = subprocess.run(
        [sys.executable, harness, which, folder],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return carry_out("short", tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return carry_out("many", tmp_path_factory.mktemp("many"))


def went_on_to_the_same_end(found, kills):
    assert sum(result["kills"] for result in found["kills"]) == kills
    assert [result["digest"] for result in found["kills"]] == [found["twin"]] * len(found["kills"])
    assert max(result["lost"] for result in found["kills"]) <= 0


def test_killed_at_a_random_moment(found):
    went_on_to_the_same_end(found, 1)


def test_killed_in_a_prune_a_rollback_and_a_save(found):
    assert len(found["points"]) == 3
    assert found["points"] == dict.fromkeys(found["points"], found["signalled twin"])


@pytest.mark.slow
def test_killed_at_ten_random_moments_in_graph_mode(many):
    went_on_to_the_same_end(many, 10)


@pytest.mark.slow
def test_killed_in_a_prune_a_rollback_and_a_save_of_a_resnet_in_graph_mode(many):
    assert len(many["points"]) == 3
    assert many["points"] == dict.fromkeys(many["points"], many["signalled twin"])


def test_disk_full_during_a_save(found):
    full = found["full"]
    assert full["rc"] == 1
    lines = full["output"].splitlines()
    assert lines[-1].startswith("adprune-train: The state of epoch 2 could not be saved.")
    assert "File too large" in lines[-1] and "Traceback" not in full["output"]
    assert full["left"] == ["a.backup", "b.backup"]
    assert (full["saved"], full["began"], full["digest"]) == (1, 1, found["twin"])


def test_changed_flags_are_named(found):
    assert found["other flags"]["rc"] == 1
    line = found["other flags"]["output"].splitlines()[-1]
    assert line.startswith("adprune-train: ")
    assert "Received: flags: --epochs=6 (it has 5), --seed=1 (it has 0)." in line


def test_a_directory_that_cannot_be_written(found):
    assert found["read-only"]["rc"] == 1
    assert (
        found["read-only"]["output"].splitlines()[-1].startswith("adprune-train: `backup_dir` must be")
    )


def test_two_processes_on_one_directory(found):
    assert found["second"]["rc"] == 1
    line = found["second"]["output"].splitlines()[-1]
    assert line.startswith("adprune-train: ") and "is in use" in line
    assert found["second"]["digest"] == found["twin"]


def test_sigterm(found):
    assert found["sigterm"] == {"rc": 143, "digest": found["twin"]}
