"""What `adprune-train --help` and `--list` say."""

import dataclasses
import inspect
import re

import pytest
from absl import flags
from toys import flags_of

from adprune_keras import ADPrune, models
from adprune_keras.cli import command, train
from adprune_keras.cli.listing import what_there_is
from adprune_keras.prune.widths import WidthRule


@pytest.fixture
def groups():
    """The flags of `adprune-train`, defined for this test alone."""
    with flags_of(train) as found:
        yield found


def test_every_flag_of_a_run_is_in_the_help_once(groups):
    shown = [member.name for members in groups.values() for member in members]
    own = {field.name for kind in train.KINDS for field in dataclasses.fields(kind)} | {"list"}
    assert len(shown) == len(set(shown)) and set(shown) == own
    text = command.help_text(train.__doc__, groups)
    assert len(text.splitlines()) < 130
    assert all(f"--{name}" in text or f"--[no]{name}" in text for name in shown)


def test_every_flag_goes_into_a_flagfile_and_comes_back(groups, tmp_path):
    values = flags.FLAGS
    values(
        ["x", "--run_dir=r", "--augment=crop", "--noprune", "--include=a", "--include=b", "--widths=1,2"]
    )
    lines = [values[m.name].serialize() for ms in groups.values() for m in ms]
    (tmp_path / "f").write_text("\n".join(line for line in lines if line))

    def found():  # absl's own, such as --verbosity, other tests change too
        return {m.name: values[m.name].value for members in groups.values() for m in members}

    before = found()
    values.unparse_flags()
    values(["x", f"--flagfile={tmp_path / 'f'}"])
    assert found() == before
    assert "--augment=crop" in lines and "--include=a\n--include=b" in lines


def test_no_default_is_left_unexplained(groups):
    """`None` says what happens then; a value says why it is this one."""
    for member in (member for members in groups.values() for member in members):
        flag = flags.FLAGS[member.name]
        if flag.default is None and member.name != "run_dir":
            assert "efault:" in flag.help or "not by default" in flag.help, member.name


def test_defaults_are_those_of_the_callback(groups):
    ours = inspect.signature(ADPrune).parameters
    for name in ("rho", "patience", "min_epochs", "max_prunes", "final_epochs", "rollback"):
        assert flags.FLAGS[name].default == getattr(ADPrune().schedule, name)
    for name in ("weights", "shortcuts", "target", "sample_places"):
        assert flags.FLAGS[name].default == ours[name].default
    assert flags.FLAGS["prune_at"].default is None and ours["schedule"].default is None
    for name in ("min_width", "round_to", "max_shrink", "include", "exclude"):
        assert flags.FLAGS[name].default == getattr(WidthRule(), name)


def test_list_shows_data_sets_networks_and_the_flagfiles_at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(r"\n  digits +The quick start", what_there_is())  # of the package
    (tmp_path / "configs" / "folder.flags").mkdir(parents=True)
    (tmp_path / "configs" / "mine.flags").write_text("# My own\x1b[2J. More.\n--epochs=3\n")
    text = what_there_is()
    assert "  configs/mine.flags           My own [2J\n" in text + "\n"
    assert "folder.flags" not in text and "digits.flags" not in text
    assert "  VGG19        16 widths, 64 to 512\n" in text
    assert all(name in text for name in (*models.NETWORKS, "digits", "cifar100", "tiny_imagenet"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--network=resnet81", "VGG19First8|ResNet18|ResNet34|ResNet50>. Did you mean 'ResNet18' or "),
        ("--netwrok=VGG11", "Unknown command line flag 'netwrok'. Did you mean: network ?"),
        ("--flagfile=configs/digit.flags", "Did you mean 'digits'? At hand: "),
        ("--verbose=3", "flag --verbose=3"),
    ],
)
def test_what_is_misspelt_is_told_the_nearest(argument, message, groups):
    with pytest.raises(SystemExit) as ended:
        command.parse(["adprune-train", "--run_dir=r", argument])
    assert message in ended.value.code and len(ended.value.code.splitlines()) == 1
