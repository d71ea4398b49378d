"""Files that are there whole or not at all, under names that are no links."""

import contextlib
import os
import pathlib
import shutil
import tempfile

TEMPORARY = ".tmp-adprune-"  # how the names begin of what is written, until it is whole


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    The file is synced before it is renamed, so that `path` is at all times absent, the old file, or
    the whole new one. If the block raises, the temporary file goes and `path` is as it was.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield pathlib.Path(name)
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
        _sync_folder(path.parent)
    finally:
        pathlib.Path(name).unlink(missing_ok=True)


def tidy(directory):
    """Remove what writes that were killed left under a temporary name of ours.

    No other process may be writing. Links are removed, not what they lead to.
    """
    for path in pathlib.Path(directory).glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync_folder(path):
    """Make a rename outlast a power cut, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def own_path(directory, name):
    """Return the path of something that is written into a directory.

    Raises:
        ValueError: a link stands there. What it leads to lies elsewhere, and is not a run's to change.
    """
    path = pathlib.Path(directory) / name
    if path.is_symlink():
        raise ValueError(
            f"Links are not followed, as what they lead to may be yours. Received: {path}, a link to "
            f"{os.readlink(path)}. Remove the link, or choose another directory."
        )
    return path


def write_text(path, text):
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
