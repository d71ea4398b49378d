"""What the lines of a record may hold: the one place that checks them, for all that read them."""

import itertools
import math
from typing import get_args

from adprune_keras.counting.counts import COUNTS
from adprune_keras.record.entry import Outcome, Profile

PROFILES = get_args(Profile)
OUTCOMES = get_args(Outcome)
MOST_EPOCHS = 100_000  # of a run
MOST_NETS = 1_000
MOST_SERIES = 10_000  # curves to draw: layers of all nets together
MOST_SIZES = 100_000  # widths and costs of layers of all nets together
MOST_VALUES = 5_000_000  # of all series of a run
MOST_KEPT = 5_000_000  # kept channels of all nets together
_MOST_FORMATS = 100
_MOST = 1 << 53  # ints above are not the same number everywhere
_DEPTH = 8


def check(entry):
    """Raise `ValueError` where a line of a record is not what is written there.

    Fields that nobody reads may be there; those that somebody reads are checked for type and size.

    Args:
        entry: what a line holds, as `json.loads` gave it.
    """
    if not isinstance(entry, dict) or entry.get("kind") not in _FIELDS:
        raise ValueError(f"a line is no object with a `kind` among {list(_FIELDS)}")
    _check_depth(entry, _DEPTH)
    _check_fields(f"a line of kind '{entry['kind']}'", entry, *_FIELDS[entry["kind"]])
    if entry["kind"] == "run":
        _check_fields("the flags of a run", entry["flags"], *_FLAGS)


def check_nets(nets):
    """Raise `ValueError` where all nets of a record together are too many to be shown."""
    for what, found, most in (
        ("nets", len(nets), MOST_NETS),
        ("epochs", sum(net["epochs"] for net in nets), MOST_EPOCHS),
        ("layers in all nets", sum(len(net["densities"]) for net in nets), MOST_SERIES),
        ("widths and costs of layers", sum(map(_sizes, nets)), MOST_SIZES),
        ("values", sum(map(values, nets)), MOST_VALUES),
        ("kept channels", sum(map(_kept, nets)), MOST_KEPT),
    ):
        if found > most:
            raise ValueError(f"it has {found:,} {what}, and {most:,} are allowed")
    for net in nets:
        for series in (*net["logs"].values(), *net["densities"].values()):
            if len(series) != net["epochs"]:
                raise ValueError(
                    f"net{net['net']} has {net['epochs']} epochs and a series of {len(series)} values"
                )


def check_export(found):
    """Raise `ValueError` where an export report is not what `adprune-export` writes."""
    if not isinstance(found, dict) or len(found) > _MOST_FORMATS:
        raise ValueError(f"it is no object of at most {_MOST_FORMATS} formats")
    for name, row in found.items():
        where = f"format {_short(name)}"
        if not _is_text(name) or not isinstance(row, dict):
            raise ValueError(f"{where} is {_short(row)}")
        _check_fields(where, row, *_FORMAT)


def values(net):
    """Return how many values all series of a net hold."""
    return net["epochs"] * (len(net["logs"]) + len(net["densities"]))


def _sizes(net):
    return len(net["widths"]) + len(net.get("layer_costs") or ())


def _kept(net):
    return sum(map(len, (net.get("kept_channels") or {}).values()))


def _check_fields(where, entry, required, optional):
    missing = sorted(required.keys() - entry.keys())
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    for name, fits in (required | optional).items():
        if name in entry and not fits(entry[name]):
            raise ValueError(f"`{name}` in {where} is {_short(entry[name])}")


def _check_depth(value, left):
    if left == 0:
        raise ValueError(f"a line is nested more than {_DEPTH} levels deep")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _is_int(least, most=_MOST):
    return lambda value: type(value) is int and least <= value <= most


def _is_number(value):
    return type(value) in (int, float) and abs(value) < 1e39  # float32's largest; not inf, not NaN


def _is_positive(value):
    return _is_number(value) and 1e-9 < value < 1e9


def _is_bool(value):
    return isinstance(value, bool)


def _is_text(value):
    if not isinstance(value, str) or len(value) > 4096:
        return False
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)  # no half characters


def _or_none(fits):
    return lambda value: value is None or fits(value)


def _among(*values):
    return lambda value: isinstance(value, str) and value in values


def _list_of(fits, most=math.inf):
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(fits, value))


def _dict_of(fits):
    return lambda value: (
        isinstance(value, dict) and all(_is_text(key) and fits(v) for key, v in value.items())
    )


def _is_rising(value):
    """Fits a list of channels: ints from 0 on, each above the one before."""
    return _CHANNELS(value) and all(a < b for a, b in itertools.pairwise(value))


def _object(**fields):
    """Fits an object that has all of the fields, each of which fits."""
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and fits(value[name]) for name, fits in fields.items())
    )


_CHANNELS = _list_of(_is_int(0), MOST_KEPT)
_SERIES = _dict_of(_list_of(_or_none(_is_number)))
_VALUES = _dict_of(_or_none(_is_number))
_EPOCHS = _is_int(0, MOST_EPOCHS)
_REDUCTION = _or_none(_object(**dict.fromkeys(COUNTS, _is_positive)))
_COST = _object(macs=_is_int(0), params=_is_int(0))
_LAYER = _object(macs=_is_int(0), params=_is_int(0), bias=_is_int(0), owns_width=_is_bool)
_DATA = _object(classes=_is_int(1), train_examples=_is_int(0))
_NET = (
    {
        "net": _is_int(0, MOST_NETS),
        "start": _EPOCHS,
        "epochs": _EPOCHS,
        "widths": _dict_of(_is_int(1)),
        "ops_reduction": _REDUCTION,
        "params_reduction": _REDUCTION,
        "logs": _SERIES,
        "densities": _SERIES,
        "outcome": _among(*OUTCOMES),
        "reason": _is_text,
    },
    {
        "cost": _or_none(_object(**dict.fromkeys(COUNTS, _COST))),
        "layer_costs": _or_none(_dict_of(_LAYER)),
        "channel_densities": _SERIES,
        "kept_channels": _or_none(_dict_of(_is_rising)),
        "profile": _among(*PROFILES),
        "rebuild_seconds": _or_none(_is_number),
        "retrace_seconds": _or_none(_is_number),
    },
)
# Those that say how to load the data and build the net again; the others are there to be read.
_FLAGS = (
    {"network": _is_text, "dataset": _is_text},
    {
        "batch_size": _is_int(1),
        "image_size": _or_none(_is_int(1)),
        "train_examples": _or_none(_is_int(1)),
        "test_examples": _or_none(_is_int(1)),
        "data_dir": _or_none(_is_text),
        "download": _is_bool,
        "seed": _is_int(0),
        "widths": _or_none(_list_of(_is_text, MOST_NETS)),
        "width_scale": _is_positive,
    },
)
_FORMAT = (
    {"file": _is_text, "bytes": _or_none(_is_int(0)), "problems": _list_of(_is_text, MOST_NETS)},
    {
        **dict.fromkeys(("macs", "params", "images"), _or_none(_is_int(0))),
        **dict.fromkeys(("difference", "worst", "agreement"), _or_none(_is_number)),
        **dict.fromkeys(("accuracy", "keras_accuracy"), _or_none(_is_number)),
    },
)
# kind: (fields that it must have, fields that it may have)
_FIELDS = {
    "run": (
        {"schema": _is_int(1), "flags": _dict_of(lambda value: True), "data": _DATA},
        {"versions": _dict_of(_is_text)},
    ),
    "start": _NET,
    "epoch": ({"start": _EPOCHS, "logs": _VALUES, "densities": _VALUES}, {}),
    "net": _NET,
    "result": ({}, {"epochs": _EPOCHS, "fit_seconds": _is_number, "val_accuracy": _or_none(_is_number)}),
}
