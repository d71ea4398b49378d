import itertools

import pytest
from absl import app, flags

from adprune_keras.cli import command, flagfiles
from adprune_keras.text import did_you_mean, printable


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
    assert "there is no such file. Received: " in refused(f"--flagfile={tmp_path / 'absent'}")
    (tmp_path / "small.flags").write_text("--a=2")
    near = f"{tmp_path}/smal.flags. Did you mean 'small'? At hand: {tmp_path}/small.flags, cifar100_"
    assert near in refused(f"--flagfile={tmp_path / 'smal.flags'}")
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
    monkeypatch.setattr(flagfiles, "_MOST_FLAGFILE", 5)
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


def test_help_is_grouped_and_gives_defaults(monkeypatch):
    values = flags.FlagValues()
    groups = {
        "One": [flags.DEFINE_integer("epochs", 100, "Epochs; the paper's.", flag_values=values)],
        "Two": [
            flags.DEFINE_bool("backup", True, "Save.", flag_values=values),
            flags.DEFINE(command.Choice(["a", "b"]), "kind", "a", "Which.", flag_values=values),
            flags.DEFINE_enum("old", "a", ["a", "b"], "Which.", flag_values=values),
            flags.DEFINE_list("widths", None, "W " * 60, flag_values=values),
        ],
    }
    monkeypatch.setattr(command.flags, "FLAGS", values)
    text = command.help_text("`adprune-test`: does this.", groups)
    assert text.splitlines()[:7] == [
        "`adprune-test`: does this.",
        "",
        "One:",
        "  --epochs=100            Epochs; the paper's.",
        "",
        "Two:",
        "  --[no]backup            Save. Default: on.",
    ]
    assert "  --kind=a                Which. One of a, b.\n  --old=a                 Which. One" in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("W ") + text.count("W\n") == 60


def test_flags_that_show_something_end_the_program(capsys):
    values = flags.FlagValues()
    flags.DEFINE_flag(command.Show("list", "", lambda: "a\nb"), flag_values=values)
    flags.DEFINE_string("needed", None, "", required=True, flag_values=values)
    with pytest.raises(SystemExit) as ended:
        values(["x", "--list"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "a\nb\n")
    values(["x", "--nolist", "--needed=1"])


@pytest.mark.parametrize("error", [ValueError, OSError, ImportError, app.UsageError])
def test_what_a_command_was_given_ends_it_in_one_line(error):
    def act():
        raise error("no\nway")

    with pytest.raises(SystemExit) as ended:
        command.attempt("adprune-test", act, ["x"])
    assert ended.value.code == "adprune-test: no way"
    with pytest.raises(SystemExit, match=r"Unexpected arguments: \['y'\]"):
        command.attempt("adprune-test", act, ["x", "y"])


def test_nearest_names():
    known = ["VGG11", "ResNet18", "ResNet50"]
    assert did_you_mean("resnet81", known) == " Did you mean 'ResNet18' or 'ResNet50'?"
    assert did_you_mean("mobilenet", ["VGG11"]) == ""
    with pytest.raises(ValueError, match=r"one of <a1\|b2>. Did you mean 'a1'\?"):
        command.Choice(["a1", "b2"]).parse("A1")
    assert printable("a\x1b[2J\ud800\n") == "a [2J  "


def test_messages_have_one_line():
    assert command.one_line("a\n  b\tc") == "a b c"
    assert len(command.one_line("x" * 10_000)) == 2004
