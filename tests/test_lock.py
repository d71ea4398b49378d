"""Who holds a directory, and when another may take it: with times set, not waited for."""

import json
import os
import subprocess
import time

import pytest

from adprune_keras.files.lock import NAME, SILENCE, Lock, _began


@pytest.fixture
def other():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def held_by(path, pid, host=None, began=None, age=0.0):
    """Write the lock of another process, whose last sign of life was `age` seconds ago."""
    mine = Lock(path)._mine
    owner = {"pid": pid, "host": host or mine["host"], "began": began or _began(pid), "token": "x"}
    file = path / NAME
    file.write_text(json.dumps(owner))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_taken_and_given_back(tmp_path):
    mine = Lock(tmp_path)
    assert mine.take() is None
    owner = json.loads((tmp_path / NAME).read_text())
    assert owner["pid"] == os.getpid()
    mine.check()
    mine.release()
    mine.release()
    assert not list(tmp_path.iterdir())


def test_a_living_process_keeps_it_whatever_the_clock_says(tmp_path, other):
    for age in (0, 1e6, -1e6):
        held_by(tmp_path, other.pid, age=age)
        if age > SILENCE:
            continue
        with pytest.raises(ValueError, match=f"is in use.*held by process {other.pid} on .*s ago"):
            Lock(tmp_path).take()


def test_a_dead_process_loses_it_at_once(tmp_path, other):
    held_by(tmp_path, other.pid)
    other.kill()  # and not waited for: it stays in the process table
    while _began(other.pid) is not None:
        time.sleep(0.01)
    assert Lock(tmp_path).take() == f"process {other.pid} on {Lock(tmp_path)._mine['host']} has ended"


def test_a_number_used_again_is_another_process(tmp_path, other):
    held_by(tmp_path, other.pid, began="1")
    assert "has ended" in Lock(tmp_path).take()


def test_another_host_is_judged_by_its_silence(tmp_path):
    held_by(tmp_path, 1, host="elsewhere", began="1", age=SILENCE - 20)
    with pytest.raises(ValueError, match="process 1 on elsewhere, last sign of life 100 s ago"):
        Lock(tmp_path).take()
    held_by(tmp_path, 1, host="elsewhere", began="1", age=-1e6)  # the clock went back
    with pytest.raises(ValueError, match="is in use"):
        Lock(tmp_path).take()
    held_by(tmp_path, 1, host="elsewhere", began="1", age=SILENCE + 1)
    assert "elsewhere has been silent for 121 s" in Lock(tmp_path).take()


def test_who_lost_it_learns_of_it(tmp_path):
    first, second = Lock(tmp_path), Lock(tmp_path)
    first.take()
    second.take()  # the same process: an earlier `fit` of it that broke off
    with pytest.raises(ValueError, match="no longer holds"):
        first.check()
    first.release()
    second.check()
    second.release()
    with pytest.raises(ValueError, match="no longer holds"):
        second.check()


def test_a_lock_that_was_not_written_to_the_end(tmp_path):
    file = tmp_path / NAME
    file.write_text('{"pid": 1')
    with pytest.raises(ValueError, match="is in use"):
        Lock(tmp_path).take()
    os.utime(file, (time.time() - 60,) * 2)
    assert Lock(tmp_path).take() == "the lock was never written to the end"


def test_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr("adprune_keras.files.lock.BEAT", 0.01)
    mine, file = Lock(tmp_path), tmp_path / NAME
    mine.take()
    os.utime(file, (0, 0))
    end = time.monotonic() + 10
    while file.stat().st_mtime < 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert file.stat().st_mtime > 1
    mine.release()
