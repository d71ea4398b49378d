import os
import sys

import pytest

from adprune_keras.files.quiet import quiet_libraries

CHATTER = b"I0000 00:00:1795 1 port.cc:153] oneDNN is on.\nINFO: Created delegate for CPU.\n"


def test_libraries_are_quiet_and_python_is_heard(capfd):
    with quiet_libraries():
        os.write(2, CHATTER + b"a line of its own\n")
        print("a warning", file=sys.stderr)
    print("after", file=sys.stderr)
    assert sorted(capfd.readouterr().err.splitlines()) == ["a line of its own", "a warning", "after"]


def test_what_libraries_wrote_is_shown_where_something_failed(capfd):
    with pytest.raises(KeyError), quiet_libraries():
        os.write(2, CHATTER)
        raise KeyError
    assert capfd.readouterr().err == CHATTER.decode()
