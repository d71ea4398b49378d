"""Flags from settings: a flag for each field of a settings dataclass, and back."""

import dataclasses
import typing

from absl import flags

from adprune_keras.cli import command
from adprune_keras.settings import split_type


def define(*kinds, only=None, leave_out=(), required=(), defaults=None):
    """Define a flag for each setting, with its help text, limits and choices.

    Args:
        kinds: settings dataclasses; a field that several of them have is defined once.
        only: names of the fields to take, in this order, or `None` for all.
        leave_out: names of fields that get no flag.
        required: names of fields whose flag must be given.
        defaults: `{name: default}` where a command's own differs.

    Returns:
        list of what `flags.DEFINE_...` returned.
    """
    fields = {}
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            fields.setdefault(field.name, (field, hints[field.name]))
    names = [name for name in (only or fields) if name not in leave_out]
    return [
        _define(*fields[name], (defaults or {}).get(name, fields[name][0].default), name in required)
        for name in names
    ]


def values(found, *kinds):
    """Return `{name: value}` of the flags of some settings, for `settings.from_values` and records.

    Args:
        found: `flags.FLAGS`.
        kinds: settings dataclasses; fields without a flag are left out.
    """
    names = dict.fromkeys(field.name for kind in kinds for field in dataclasses.fields(kind))
    return {name: found[name].value for name in names if name in found}


def flagfile(found, names):
    """Return the text of a flagfile that gives flags the values that they have now."""
    lines = [found[name].serialize() for name in names if found[name].value is not None]
    return "\n".join(line for line in lines if line) + "\n"


def _define(field, hint, default, required):
    said, (_, kind) = field.metadata, split_type(hint)
    default = None if default is dataclasses.MISSING else default
    of, limits = (field.name, default, said["about"]), (said["least"], said["most"])
    if said["repeat"]:
        return flags.DEFINE_multi_string(*of)
    if said["choices"]:
        return flags.DEFINE(command.Choice(said["choices"]), *of, serializer=flags.ArgumentSerializer())
    if kind is tuple:
        return flags.DEFINE_list(field.name, None if default is None else list(default), said["about"])
    if kind is bool:
        return flags.DEFINE_bool(*of)
    if kind is int:
        return flags.DEFINE_integer(*of, *limits)
    if kind is float:
        return flags.DEFINE_float(*of, *limits)
    return flags.DEFINE_string(*of, required=required)
