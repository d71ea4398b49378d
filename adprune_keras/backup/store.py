"""Backups on disk: one checksummed file in two generations; plain data and arrays, never code.

A file is one line, then an `.npz`. The line says how long that is, which number the backup has in its
run, and the SHA-256 of both; the archive holds each array, and `state`: JSON that says where they
belong. Numbers alternate between two names, so a new backup takes the place of the last but one.
"""

import hashlib
import io
import json
import pathlib
import warnings
from dataclasses import dataclass

import numpy as np

from adprune_keras.files import limits
from adprune_keras.files.atomic import atomic, tidy

FORMAT = 2
_MAGIC = "adprune_keras-backup"
_NAMES = ("a.backup", "b.backup")
_LONGEST_LINE = 200
_ARRAY = "array"


class BackupError(OSError):
    """A backup that could not be written; what was saved before is intact."""


@dataclass(frozen=True)
class Saved:
    """A backup as it was read.

    Attributes:
        number: int, of the backup in its run, from 1 on.
        body: bytes, the archive; `decode` reads it.
    """

    number: int
    body: bytes


def write(directory, number, state):
    """Write a backup.

    Args:
        directory: path.
        number: int, one above that of the last backup.
        state: nested dicts (keys are str) and lists of plain data and NumPy arrays.

    Raises:
        OSError: it could not be written; the files that were there are as they were.
    """
    body = encode(state)
    head = f"{FORMAT} {number} {len(body)}"
    with atomic(_path(directory, number)) as temporary, open(temporary, "wb") as file:
        file.write(f"{_MAGIC} {head} {_digest(head, body)}\n".encode())
        file.write(body)


def newest(directory):
    """Return the newest `Saved` of a directory, or `None` where there is none.

    Where a file is damaged or missing the other one serves, with a warning.

    Raises:
        ValueError: every file that is there is damaged, or one is of a newer format.
    """
    good, bad = [], []
    for name in _NAMES:
        path = pathlib.Path(directory) / name
        try:
            good.append((_read(path), path))
        except _OtherFormat:  # not damage: the older generation must not take its place
            raise
        except FileNotFoundError:
            bad.append((path, "it is missing"))
        except (ValueError, OSError) as e:
            bad.append((path, f"it is damaged: {e}"))
    damaged = [f"{path}, but {why}" for path, why in bad if path.exists()]
    if not good and not damaged:
        return None
    if not good:
        raise ValueError(
            "No backup here can be read. Expected what `ADPrune(backup_dir=...)` wrote. "
            f"Received: {'; '.join(damaged)}. Remove {directory} to start afresh."
        )
    saved, path = max(good, key=lambda found: found[0].number)
    if bad and (saved.number > 1 or damaged):  # the first backup of a run stands alone
        other, why = bad[0]
        warnings.warn(f"{other} does not serve, as {why}. {path} does.", stacklevel=2)
    return saved


def remove(directory):
    """Remove the backups of a directory, and what a process that was killed left of its own.

    Raises:
        ValueError: a file under the name of a backup is none; nothing is removed.
    """
    paths = [pathlib.Path(directory) / name for name in _NAMES]
    strange = [str(path) for path in paths if path.exists() and not _is_ours(path)]
    if strange:
        raise ValueError(
            "Backups have names of their own, and these files are not backups. They may be yours. "
            f"Received: {', '.join(strange)}. Move them, or choose another directory."
        )
    for path in paths:
        path.unlink(missing_ok=True)
    tidy(directory)


def _is_ours(path):
    if not path.is_file() or path.is_symlink():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC.encode()


def encode(state):
    """Return nested dicts and lists of plain data and arrays as the bytes of an `.npz`.

    Raises:
        ValueError: a key that is not a str, or an array that is not of numbers in this machine's order:
            what is read again must be what was saved.
        TypeError: something that is not plain data.
    """
    arrays, buffer = [], io.BytesIO()

    def plain(value):
        if isinstance(value, np.ndarray):
            arrays.append(_storable(value))
            return {_ARRAY: len(arrays) - 1, "dtype": value.dtype.name}
        if isinstance(value, dict):
            if other := [key for key in value if not isinstance(key, str)]:
                raise ValueError(f"The keys of a state must be of type str. Received: {other[0]!r}")
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps(plain(state)).encode()
    named = {str(i): array for i, array in enumerate(arrays)}
    np.savez(buffer, state=np.frombuffer(text, np.uint8), **named)
    return buffer.getvalue()


def decode(body):
    """Return what `encode` took, tuples as lists.

    Raises:
        ValueError: not what `encode` returned. It packs nothing, so what is larger unpacked is refused.
    """

    def whole(value):
        if isinstance(value, dict):
            # Layers may have these names too, but what is kept of them is no text.
            if value.keys() == {_ARRAY, "dtype"} and isinstance(value["dtype"], str):
                return arrays[str(value[_ARRAY])].view(np.dtype(value["dtype"]))
            return {key: whole(v) for key, v in value.items()}
        return [whole(v) for v in value] if isinstance(value, list) else value

    arrays = limits.read_npz(io.BytesIO(body), len(body))
    try:
        return whole(json.loads(arrays["state"].tobytes()))
    except (KeyError, TypeError, RecursionError) as e:
        raise ValueError(f"it names an array that it does not hold: {e}") from e


def _storable(array):
    kind = array.dtype
    if kind.isbuiltin not in (1, 2) or kind.kind not in "biufcV" or kind.hasobject:
        raise ValueError(
            "An array in a state must be of numbers, in the byte order of this machine. "
            f"Received: an array of dtype {kind}"
        )
    # NumPy's own files know no bfloat16.
    return array if kind.isbuiltin == 1 else array.view(f"u{kind.itemsize}")


def _read(path):
    """Read one file as `Saved`; `ValueError` completes a sentence."""
    with open(path, "rb") as file:
        line, body = file.readline(_LONGEST_LINE), file.read()
    try:
        magic, version, number, length, digest = line.decode("ascii").split(" ")
        head, known = f"{version} {number} {length}", magic == _MAGIC
        version, number, length = int(version), int(number), int(length)
    except ValueError as e:
        raise ValueError("its first line is not that of a backup") from e
    if not known or digest != _digest(head, body) + "\n":
        raise ValueError(f"its checksum is not that of its {len(body)} bytes (expected {length})")
    if version != FORMAT:
        raise _OtherFormat(
            f"A backup of a format that this version does not read. Received: {path}, format {version}, "
            f"expected {FORMAT}. Go on with the version of adprune_keras that wrote it."
        )
    return Saved(number, body)


class _OtherFormat(ValueError):
    pass


def _path(directory, number):
    return pathlib.Path(directory) / _NAMES[number % 2]


def _digest(head, body):
    digest = hashlib.sha256(f"{_MAGIC} {head}\n".encode())
    digest.update(body)
    return digest.hexdigest()
