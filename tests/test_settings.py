"""A setting is declared once: the flag, the config entry and the row of the docs come from its field."""

import dataclasses
import pathlib

import pytest
from absl import flags

from adprune_keras.cli import options, settings_page
from adprune_keras.prune import callback
from adprune_keras.prune.schedule import Saturation
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.settings import check, from_values, setting
from adprune_keras.train.settings import Network, Output, Run, Training

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "settings.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class More(Pruning):
    """The settings of a prune, and one more."""

    margin: int = setting(3, "Channels to spare. Default: three.", least=0)


@pytest.fixture
def no_flags(monkeypatch):
    """A process without flags."""
    values = flags.FlagValues()
    for name in [name for name in dir(flags) if name == "DEFINE" or name.startswith("DEFINE_")]:
        original = getattr(flags, name)
        monkeypatch.setattr(
            flags, name, lambda *a, define=original, **k: define(*a, flag_values=values, **k)
        )
    return values


def test_one_more_field_is_a_flag_a_config_entry_and_a_row(no_flags, monkeypatch):
    defined = options.define(More)
    assert [d.name for d in defined] == [*(f.name for f in dataclasses.fields(Pruning)), "margin"]
    assert no_flags["margin"].help == "Channels to spare. Default: three."
    no_flags(["x", "--margin=5"])
    assert from_values(More, options.values(no_flags, More)).margin == 5
    assert "--margin=5" in options.flagfile(no_flags, ["margin"])
    with pytest.raises(flags.IllegalFlagValueError):
        no_flags(["x", "--margin=-1"])

    monkeypatch.setattr(callback, "Pruning", More)
    assert callback.ADPrune().get_config()["margin"] == 3
    assert callback.ADPrune().settings()["margin"] == 3

    text = settings_page.page({"More": More})
    assert "| `margin` | `3` | Channels to spare. Default: three. |" in text


def test_the_page_is_made_from_the_fields():
    assert PAGE.read_text() == settings_page.page(), (
        "python -m adprune_keras.cli.settings_page > docs/settings.md"
    )


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Training, {"epochs": 0}, "`epochs` must be an int of at least 1. Received: epochs=0"),
        (Training, {"epochs": True}, "`epochs` must be an int of at least 1. Received: epochs=True"),
        (Training, {"momentum": 1.5}, "`momentum` must be a finite number of at least 0 and at most 1"),
        (Training, {"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        (Training, {"optimizer": "sdg"}, r"must be one of \('sgd', 'adam', 'adamw'\). Received: .*sdg"),
        (Training, {"prune": 1}, "`prune` must be True or False. Received: prune=1"),
        (
            Saturation,
            {"max_prunes": -1},
            "must be an int of at least 0 or None. Received: max_prunes=-1",
        ),
        (Saturation, {"rho": 1}, "`rho` is a change of AE"),
        (WidthRule, {"round_to": 0}, "`round_to` must be an int of at least 1"),
        (WidthRule, {"include": "("}, "`include` must be layer names or regular expressions"),
        (Network, {"widths": ["8", "x"]}, "--widths takes ints, separated by commas. Received:"),
        (Network, {"network": "VGG11", "widths": [8]}, "has 8 layers that own a width"),
        (Network, {"width_scale": 0}, "--width_scale must be above 0"),
        (Network, {"width_scale": 900}, "The network is too wide"),
        (Output, {"run_dir": "a\n--download"}, "`run_dir` must be a str of one line"),
        (Output, {"overwrite": True, "resume": True}, "exclude each other"),
    ],
)
def test_what_a_setting_cannot_be(kind, values, message):
    with pytest.raises(ValueError, match=message):
        from_values(kind, values)


def test_settings_of_another_kind_are_passed_over():
    assert from_values(Saturation, {"patience": 3, "widths": None, "download": True}).patience == 3
    run = Run.of({"prune_at": ["5", "9"], "max_prunes": 1, "final_epochs": 4, "network": "VGG11"})
    assert (run.schedule.prune_at, run.schedule.final_epochs) == ((5,), 4)
    assert Run.of({"prune_at": ["5"], "max_prunes": 0}).schedule == Saturation(max_prunes=0)


def test_fields_that_are_no_settings_are_not_checked():
    @dataclasses.dataclass
    class Plain:
        number: int = 3

    check(Plain("three"))
