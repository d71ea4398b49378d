"""Flagfiles: those at hand, and what is refused."""

import os
import pathlib
import stat

from adprune_keras.text import did_you_mean

_MOST_FLAGFILE, _MOST_FLAGFILES = 1 << 20, 100  # bytes; how many


def flagfiles():
    """Return the flagfiles at hand, as sorted paths.

    Those of `configs/` in the working directory, or else of the clone that this package is imported
    from; none where it was installed from elsewhere.
    """
    for folder in (pathlib.Path("configs"), pathlib.Path(__file__).resolve().parent.parent / "configs"):
        if found := sorted(file for file in folder.glob("*.flags") if file.is_file()):
            return found
    return []


def _no_flagfile(path):
    """Say that there is no such flagfile, and which there are."""
    wanted = pathlib.Path(path)
    beside = sorted(wanted.parent.glob("*.flags")) or flagfiles()
    near = did_you_mean(wanted.stem, [file.stem for file in beside])
    at_hand = f" At hand: {', '.join(map(str, beside))}." if beside else ""
    return ValueError(
        f"Unable to open flagfile: there is no such file. Received: {path}.{near}{at_hand}"
    )


def check_flagfiles(arguments, before, stack=()):
    """Refuse flagfiles that are no small text files, or too many of them; those named in flagfiles too.

    Returns the number of flagfiles, `before` included: each is read as often as it is named.
    """
    for at, argument in enumerate(arguments):
        flag, equals, path = argument.strip().partition("=")
        if flag not in ("--flagfile", "-flagfile"):
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
