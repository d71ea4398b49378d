"""The layout of a run directory, one function per artefact; every write is atomic.

flags.txt      the flags of the run, an absl flagfile
record.jsonl   JSON lines: the run (flags, data, versions), each net, the result
final.keras    the final network, plain Keras
summary.md     the table
density.png    accuracy and activation density over the epochs
maps.npz       what the ReLUs of each net put out for one test image
backup/        the state of a run that goes on, and its lock
export/        what `adprune-export` made of it
report/        what `adprune-report` made of it
"""

import contextlib
import json
import math
import os
import pathlib
import tempfile
import zipfile
from dataclasses import dataclass

import numpy as np

SCHEMA = 1
_FILES = ("flags.txt", "record.jsonl", "final.keras", "summary.md", "density.png", "maps.npz")
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Run:
    """What a record holds.

    Attributes:
        name: str, of the run directory.
        header: dict: flags, data, versions.
        nets: list of dicts, as in `ADPrune.record`.
        result: dict, or `None` where training did not end.
    """

    name: str
    header: dict
    nets: list
    result: dict | None


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    The file is synced before it is renamed, so that `path` is at all times absent, the old file, or
    the whole new one. If the block raises, the temporary file goes and `path` is as it was.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=path.suffix, dir=path.parent)
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
    """Remove the temporary files of writes that were killed; no other process may be writing."""
    for file in pathlib.Path(directory).glob(f"{_TEMPORARY}*"):
        file.unlink(missing_ok=True)


def _sync_folder(path):
    """Make a rename outlast a power cut, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check(directory, overwrite=False, resume=False):
    """Raise `ValueError` where a run must not be written, and touch nothing.

    Args:
        directory: str or path.
        overwrite: bool, whether a run that is there may be replaced.
        resume: bool, whether a run that is there goes on.
    """
    if overwrite and resume:
        raise ValueError("--overwrite and --resume exclude each other. Received: both")
    path = pathlib.Path(directory)
    if path.exists() and not path.is_dir():
        raise ValueError(f"A run directory must be a directory. Received: the file {path}")
    held = [name for name in _FILES if (path / name).exists()]
    held += [file.name for file in sorted(backup_path(path).glob("*.backup"))]
    if held and not (overwrite or resume):
        raise ValueError(
            f"{path} already holds a run ({', '.join(held)}). Choose another run_dir, or give "
            "--resume to go on with that run, or --overwrite to replace it."
        )


def create(directory, overwrite=False):
    """Make a run directory and return its path; arguments and errors as in `check`.

    Overwriting removes the files of the run that is there, and nothing else; its backups stay.
    """
    check(directory, overwrite)
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    for file in (*(path / name for name in _FILES), *(path / "export").glob("*")):
        if file.is_file():
            file.unlink()
    tidy(path)
    return path


def backup_path(directory):
    """Return where a run's backups are."""
    return pathlib.Path(directory) / "backup"


def is_over(directory):
    """Return whether a directory holds a run that ended and was written to the end."""
    path = pathlib.Path(directory)
    going_on = any(backup_path(path).glob("*.backup"))  # they go last
    return not going_on and (path / "record.jsonl").is_file() and read_run(path).result is not None


def write_text(path, text):
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_record(directory, entries):
    """Write `record.jsonl`: one JSON object a line, `entries` are plain dicts with a `kind`."""
    lines = (json.dumps(plain(entry), allow_nan=False) for entry in entries)
    write_text(pathlib.Path(directory) / "record.jsonl", "\n".join(lines) + "\n")


def read_record(directory):
    """Read `record.jsonl` of a run directory.

    Returns:
        list of dicts; the first is of kind `"run"`.

    Raises:
        ValueError: no run directory, a damaged record, or one of a newer schema.
    """
    path = pathlib.Path(directory) / "record.jsonl"
    if not path.is_file():
        raise ValueError(
            f"{directory} is not a run directory: it has no record.jsonl. "
            "Expected what `adprune-train --run_dir` wrote."
        )
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if entries[0]["kind"] != "run" or not isinstance(entries[0]["schema"], int):
            raise ValueError("its first line is not of kind 'run'")
    except (ValueError, LookupError, TypeError) as e:
        raise ValueError(f"The record of a run is damaged. Received: {path}: {e}") from e
    if entries[0]["schema"] > SCHEMA:
        raise ValueError(
            f"{path} has schema {entries[0]['schema']}, and this version reads up to {SCHEMA}. "
            "Update adprune_keras."
        )
    return entries


def read_run(directory):
    """Read a run directory's record as a `Run`; errors as in `read_record`."""
    entries = read_record(directory)
    nets = [entry for entry in entries if entry.get("kind") == "net"]
    result = next((entry for entry in entries if entry.get("kind") == "result"), None)
    return Run(pathlib.Path(directory).resolve().name, entries[0], nets, result)


def save_maps(directory, nets):
    """Write `maps.npz`.

    Args:
        directory: the run directory.
        nets: `{"net0": {name: float array (h, w)}}`: the image and the averaged activations of each net.
    """
    arrays = {f"{net}|{name}": array for net in nets for name, array in nets[net].items()}
    with atomic(pathlib.Path(directory) / "maps.npz") as temporary:
        np.savez_compressed(temporary, **arrays)


def read_maps(directory):
    """Read `maps.npz` back as `save_maps` took it, in order; `{}` where the run has none."""
    path, nets = pathlib.Path(directory) / "maps.npz", {}
    if not path.is_file():
        return nets
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                net, name = key.split("|", 1)
                nets.setdefault(net, {})[name] = file[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as e:
        raise ValueError(f"The activation maps of a run are damaged. Received: {path}: {e}") from e
    return nets


def save_model(directory, model):
    """Write `final.keras`."""
    with atomic(pathlib.Path(directory) / "final.keras") as temporary:
        model.save(temporary)


def save_figure(directory, name, figure):
    """Write a `matplotlib` figure into a run directory; the suffix of `name` is its format."""
    with atomic(pathlib.Path(directory) / name) as temporary:
        figure.savefig(temporary, dpi=150)


def model_path(directory):
    """Return the path of a run's `final.keras`, or raise `ValueError` where it has none."""
    path = pathlib.Path(directory) / "final.keras"
    if not path.is_file():
        raise ValueError(f"The run in {directory} has no final.keras: did its training end?")
    return path


def plain(value):
    """Return `value` as JSON holds it: NaN and infinities as `None`, tuples as lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
