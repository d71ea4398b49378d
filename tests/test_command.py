import itertools

import pytest
from absl import flags

from adprune_keras import command


def parse(*arguments):
    values = flags.FlagValues()
    flags.DEFINE_integer("a", 1, "", flag_values=values)
    original, command.flags.FLAGS = command.flags.FLAGS, values
    try:
        return command.parse(["adprune-test", *arguments]), values.a
    finally:
        command.flags.FLAGS = original


def refused(*arguments):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code.startswith("adprune-test: ")
    assert len(ended.value.code.splitlines()) == 1
    return ended.value.code


def test_flags_and_flagfiles(tmp_path):
    (tmp_path / "one.flags").write_text("# a comment\n--a=2\n")
    (tmp_path / "two.flags").write_text(f"--flagfile={tmp_path / 'one.flags'}\n")
    assert parse() == (["adprune-test"], 1)
    assert parse(f"--flagfile={tmp_path / 'two.flags'}") == (["adprune-test"], 2)
    assert parse("--flagfile", str(tmp_path / "one.flags"), "x") == (["adprune-test", "x"], 2)


def test_flags_that_are_none(tmp_path):
    assert "flag --a=x" in refused("--a=x")
    assert "Unknown command line flag 'b'" in refused("--b")
    assert "Unable to open flagfile" in refused(f"--flagfile={tmp_path / 'absent'}")
    assert "--flagfile with no argument" in refused("--flagfile")


def test_flagfiles_that_are_none(tmp_path, monkeypatch):
    path = tmp_path / "f"
    for other in (tmp_path, "/dev/zero"):
        path.write_text(f"--flagfile={other}\n")
        assert f"must be a text file of at most 1,048,576 bytes. Received: {other}" in refused(
            f"--flagfile={path}"
        )
    path.write_bytes(b"\xff\xfe\x00")
    assert f"must be a text file. Received: {path}: 'utf-8'" in refused(f"--flagfile={path}")
    monkeypatch.setattr(command, "_MOST_FLAGFILE", 5)
    path.write_text("--a=22")
    assert "at most 5 bytes" in refused(f"--flagfile={path}")


def test_flagfiles_that_name_each_other(tmp_path, capsys):
    """Once round is a warning of absl; each twice by the next, twenty deep, would be a million files."""
    files = [tmp_path / str(i) for i in range(21)]
    for path, after in itertools.pairwise(files):
        path.write_text(f"--flagfile={after}\n" * 2)
    files[-1].write_text("--a=2\n")
    assert "may name 100 others at the most" in refused(f"--flagfile={files[0]}")
    files[-1].write_text(f"--flagfile={files[-1]}\n--a=3\n")
    assert parse(f"--flagfile={files[-1]}")[1] == 3
    assert "circular" in capsys.readouterr().err


def test_messages_have_one_line():
    assert command.one_line("a\n  b\tc") == "a b c"
    assert len(command.one_line("x" * 10_000)) == 2004
