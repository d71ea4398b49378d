"""Settings, declared once: a field of a frozen dataclass with its help text.

From it come the flag (`cli.options`), the entry in `get_config` and in a record, and the row in
`docs/settings.md`. The field's annotation says the type, its default the default; limits and choices are
checked where a value enters.
"""

import dataclasses
import math
import types
import typing


def setting(
    default: typing.Any,
    about: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    most: float | None = None,
    repeat: bool = False,
) -> typing.Any:
    """Return a field of a settings dataclass.

    Args:
        default: its default, or `dataclasses.MISSING` where a value is required.
        about: str, what it does, and why its default is what it is.
        choices: tuple of the words that it may be, or `None`.
        least: the smallest number that it may be, or `None`.
        most: the largest, or `None`.
        repeat: bool, its flag takes one value and may be given again, as its values may hold commas.
            Such a value is checked by its own class.
    """
    metadata = {"about": about, "choices": choices, "least": least, "most": most, "repeat": repeat}
    return dataclasses.field(default=default, metadata=metadata)


def check(settings):
    """Check the values of a settings dataclass against their annotations, limits and choices.

    Raises:
        ValueError: a value that its setting cannot have, by name.
    """
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, said = getattr(settings, field.name), field.metadata
        optional, kind = split_type(hints[field.name])
        if (value is None and optional) or said.get("repeat", True):
            continue
        if said["choices"] is not None:
            right, expected = value in said["choices"], f"one of {said['choices']}"
        else:
            right, expected = _fits(value, kind, said["least"], said["most"])
        if not right:
            more = " or None" if optional else ""
            raise ValueError(
                f"`{field.name}` must be {expected}{more}. Received: {field.name}={value!r}"
            )


def from_values(kind, values):
    """Return a settings dataclass from values by name; those that are not there are at their defaults.

    Args:
        kind: the dataclass.
        values: `{name: value}`, further names allowed. A list becomes a tuple; texts in a list of ints
            are read.

    Raises:
        ValueError: a value that a setting cannot have, by name.
    """
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in values:
            continue
        value = values[field.name]
        if isinstance(value, list):
            value = tuple(value)
            if int in _items(hints[field.name]):
                value = ints(field.name, value)
        found[field.name] = value
    return kind(**found)


def ints(name, texts):
    """Return the values of a list flag as a tuple of ints."""
    try:
        return tuple(int(text) for text in texts)
    except ValueError as e:
        raise ValueError(f"--{name} takes ints, separated by commas. Received: {list(texts)}") from e


def _items(hint):
    """The kinds of items in the tuples that an annotation takes."""
    return {item for kind in (hint, *typing.get_args(hint)) for item in typing.get_args(kind)}


def split_type(hint):
    """Return whether an annotation takes `None`, and the kind of value that it takes otherwise."""
    kinds = (
        typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    )
    optional = type(None) in kinds
    origins = [typing.get_origin(kind) or kind for kind in kinds if kind is not type(None)]
    known = [kind for kind in (bool, int, float, str, tuple) if kind in origins]
    return optional, known[0] if known else str


def _fits(value, kind, least, most):
    """Whether a value is of a kind and within its limits, and what it should be, in words."""
    words = {
        bool: "True or False",
        int: "an int",
        float: "a finite number",
        str: "a str",
        tuple: "a list",
    }
    limits = [
        f"at {which} {limit:g}"
        for which, limit in (("least", least), ("most", most))
        if limit is not None
    ]
    expected = words[kind] + (f" of {' and '.join(limits)}" if limits else "")
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool), expected
    if kind is str:  # one line, as flagfiles and records have a setting on each
        return isinstance(value, str) and value.isprintable(), f"{expected} of one line"
    if kind is tuple:
        return isinstance(value, tuple), expected
    if not isinstance(value, int if kind is int else int | float) or not math.isfinite(value):
        return False, expected
    return (least is None or value >= least) and (most is None or value <= most), expected
