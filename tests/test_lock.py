"""Who holds a directory: one process, until it gives it back or ends."""

import os
import subprocess
import sys

import pytest

from adprune_keras.files.lock import NAME, Lock

HOLD = """
import sys
from adprune_keras.files.lock import Lock
lock = Lock(sys.argv[1])
try:
    lock.take()
except ValueError as e:
    print(e, flush=True)
    sys.exit()
print("taken", flush=True)
input()
lock.release()
"""


class Other:
    """Another process that tries to take the lock."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = self.process.stdout.readline().strip()

    def ends(self):
        self.process.communicate("\n")

    def is_killed(self):
        self.process.kill()
        self.process.communicate()


def test_taken_and_given_back(tmp_path):
    mine = Lock(tmp_path)
    mine.take()
    mine.check()
    mine.release()
    mine.release()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no longer holds"):
        mine.check()


def test_another_process_is_refused_until_this_one_gives_it_back(tmp_path):
    mine = Lock(tmp_path)
    mine.take()
    refused = Other(tmp_path)
    assert refused.said.startswith(f"{tmp_path} is in use. Received: {tmp_path / NAME}, locked by")
    mine.check()
    mine.release()
    other = Other(tmp_path)
    assert other.said == "taken"
    with pytest.raises(ValueError, match="is in use"):
        Lock(tmp_path).take()
    other.ends()
    mine.take()
    mine.release()


def test_a_holder_that_is_killed_loses_it_at_once(tmp_path):
    other = Other(tmp_path)
    assert other.said == "taken"
    other.is_killed()
    assert (tmp_path / NAME).exists()
    mine = Lock(tmp_path)
    mine.take()
    mine.release()


@pytest.mark.parametrize("content", ["", '{"pid": 1, "host": "elsewhere"}', "\0" * 99])
def test_a_file_that_is_left_over_is_no_obstacle(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    mine = Lock(tmp_path)
    mine.take()
    mine.release()


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_is_not_followed(tmp_path, dangling):
    theirs, directory = tmp_path / "theirs", tmp_path / "backup"
    directory.mkdir()
    if not dangling:
        theirs.write_text("years of work")
    (directory / NAME).symlink_to(theirs)
    with pytest.raises(ValueError, match=f"Links are not followed.*Received: {directory / NAME}"):
        Lock(directory).take()
    assert theirs.exists() != dangling and (dangling or theirs.read_text() == "years of work")


def test_the_same_process_takes_it_again(tmp_path):
    """As after a `fit` that broke off; what is left of that one changes nothing any more."""
    first, second = Lock(tmp_path), Lock(os.path.relpath(tmp_path))
    first.take()
    second.take()
    with pytest.raises(ValueError, match="no longer holds"):
        first.check()
    first.release()
    second.check()
    assert "is in use" in Other(tmp_path).said
    second.release()
    assert Other(tmp_path).said == "taken"


def test_a_file_that_somebody_removes_is_a_lock_lost(tmp_path):
    mine = Lock(tmp_path)
    mine.take()
    (tmp_path / NAME).unlink()
    with pytest.raises(ValueError, match=r"no longer holds the lock of .*Received: .*lock$"):
        mine.check()
    other = Other(tmp_path)
    assert other.said == "taken"
    mine.release()
    assert (tmp_path / NAME).exists()  # the other's
    other.ends()


def test_a_link_to_the_directory_is_the_directory(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mine = Lock(tmp_path / "link")
    mine.take()
    assert "is in use" in Other(tmp_path / "real").said
    mine.release()
