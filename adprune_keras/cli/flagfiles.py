"""Flagfiles: those at hand, and what is refused."""

import importlib.resources
import os
import pathlib
import stat

from adprune_keras.text import did_you_mean

_MOST_FLAGFILE, _MOST_FLAGFILES = 1 << 20, 100  # bytes; how many
_FLAGS = ("--flagfile", "-flagfile")


def shipped():
    """Return `{name: path}` of the flagfiles that come with the package."""
    folder = pathlib.Path(str(importlib.resources.files("adprune_keras.configs")))
    return {file.stem: file for file in sorted(folder.glob("*.flags"))}


def local():
    """Return the flagfiles of `configs/` in the working directory, as sorted paths."""
    return sorted(file for file in pathlib.Path("configs").glob("*.flags") if file.is_file())


def by_name(arguments):
    """Return arguments in which `--flagfile=NAME` is the path of a flagfile that comes with the package.

    A file of that name in the working directory comes first.
    """
    known, found = shipped(), list(arguments)
    for at, argument in enumerate(arguments):
        flag, equals, name = argument.partition("=")
        if flag not in _FLAGS:
            continue
        where = at if equals else at + 1
        name = name if equals else (*arguments, "")[at + 1]
        if name in known and not os.path.isfile(name):
            found[where] = f"{flag}={known[name]}" if equals else str(known[name])
    return found


def _no_flagfile(path):
    """Say that there is no such flagfile, and which there are."""
    wanted, known = pathlib.Path(path), shipped()
    beside = sorted(wanted.parent.glob("*.flags")) or local()
    near = did_you_mean(wanted.stem, [*(file.stem for file in beside), *known])
    at_hand = f" At hand: {', '.join([*map(str, beside), *known])}."
    return ValueError(
        f"Unable to open flagfile: there is no such file. Received: {path}.{near}{at_hand}"
    )


def check_flagfiles(arguments, before, stack=()):
    """Refuse flagfiles that are no small text files, or too many of them; those named in flagfiles too.

    Returns the number of flagfiles, `before` included: each is read as often as it is named.
    """
    for at, argument in enumerate(arguments):
        flag, equals, path = argument.strip().partition("=")
        if flag not in _FLAGS:
            continue
        path = path if equals else (*arguments, "")[at + 1]
        path = os.path.expanduser(path.strip().strip("\"'"))
        if not path or path in stack:
            continue  # absl has its say on these
        if not os.path.exists(path):
            raise _no_flagfile(path)
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_FLAGFILE:
            raise ValueError(
                f"A flagfile must be a text file of at most {_MOST_FLAGFILE:,} bytes. Received: {path}"
            )
        try:
            lines = pathlib.Path(path).read_text().splitlines()
        except UnicodeDecodeError as e:
            raise ValueError(f"A flagfile must be a text file. Received: {path}: {e}") from e
        before += 1
        if before > _MOST_FLAGFILES:
            raise ValueError(
                f"Flagfiles may name {_MOST_FLAGFILES} others at the most. Received: {path}"
            )
        before = check_flagfiles(lines, before, (*stack, path))
    return before
