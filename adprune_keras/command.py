"""What the three commands share: flags in; one line on stderr and exit status 1 where they fail."""

import os
import pathlib
import stat
import sys

from absl import app, flags, logging

_MOST_FLAGFILE, _MOST_FLAGFILES = 1 << 20, 100  # bytes; how many


def run(name, act):
    """Parse the flags and run a command; arguments as in `attempt`."""
    app.run(lambda argv: attempt(name, act, argv), flags_parser=parse)


def attempt(name, act, argv):
    """Run a command whose flags are parsed.

    Args:
        name: str, of the command.
        act: function without arguments. A `ValueError` (what it was given) or an `OSError` (a file) that
            it raises ends the command with one line (`--verbosity=1` shows where it came from); anything
            else is a bug, and shows its traceback.
        argv: list of str, the arguments that are no flags, the name of the program first.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}. All settings are flags.")
    try:
        act()
    except (ValueError, OSError) as e:
        logging.debug("%s failed here:", name, exc_info=True)
        sys.exit(one_line(f"{name}: {e}"))


def parse(argv):
    """Parse flags as absl does by itself, but take no flagfile that is no small text file.

    Args:
        argv: list of str, the name of the program first.

    Returns:
        list of str, the arguments that are no flags.
    """
    try:
        _check_flagfiles(argv[1:], 0)
        return flags.FLAGS(argv)
    except (flags.Error, ValueError, OSError, RecursionError) as e:
        sys.exit(one_line(f"{pathlib.Path(argv[0]).name}: {e} (--helpfull shows all flags.)"))


def one_line(text):
    """Return a message without line breaks, and not longer than a screen."""
    line = " ".join(str(text).split())
    return line if len(line) <= 2000 else f"{line[:2000]} ..."


def _check_flagfiles(arguments, before, stack=()):
    """Refuse flagfiles that are no small text files, or too many of them; those named in flagfiles too.

    Returns the number of flagfiles, `before` included: each is read as often as it is named.
    """
    for at, argument in enumerate(arguments):
        flag, equals, path = argument.strip().partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            continue
        path = path if equals else (*arguments, "")[at + 1]
        path = os.path.expanduser(path.strip().strip("\"'"))
        if not path or path in stack or not os.path.exists(path):
            continue  # absl has its say on these
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
        before = _check_flagfiles(lines, before, (*stack, path))
    return before
