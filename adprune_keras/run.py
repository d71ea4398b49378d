"""The layout of a run directory, one function per artefact; every write is atomic.

flags.txt      the flags of the run, an absl flagfile
record.jsonl   JSON lines, each added when it is known and synced: the run (flags, data, versions); for
               each net its start, its epochs one by one, and the net as it ended; the result
final.keras    the final network, plain Keras
summary.md     the table
density.png    accuracy and activation density over the epochs
maps.npz       what the ReLUs of each net put out for one test image
tensorboard/   what TensorBoard shows, with --tensorboard
backup/        the state of a run that goes on, and its lock
export/        what `adprune-export` made of it
report/        what `adprune-report` made of it
"""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
import types
import warnings
import zipfile
from dataclasses import dataclass

import numpy as np

from adprune_keras import limits, schema

SCHEMA = 1
_MOST_RECORD, _MOST_LINE = 128 << 20, 16 << 20  # bytes; a long run of ResNet50 takes about 30 MB
_MOST_MAPS, _MOST_EXPORT = 256 << 20, 1 << 20
_SETTINGS = {
    **{"batch_size": 128, "augment": "auto", "seed": 0, "widths": None, "width_scale": 1.0},
    **dict.fromkeys(("image_size", "train_examples", "test_examples", "data_dir")),
}
_FILES = ("flags.txt", "record.jsonl", "final.keras", "summary.md", "density.png", "maps.npz")
_FOLDERS = ("backup", "export", "report", "tensorboard")
_EXPORT_FILES = ("README_model.md", "latency.json", "export.json")  # beside those that the last names
_BOARDS = re.compile(r"train|validation|net\d+")  # folders that `board.Board` writes
TEMPORARY = ".tmp-adprune-"  # how the names begin of what is written, until it is whole


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
    if not str(directory):
        raise ValueError("A run directory needs a name. Received: ''")
    if path.exists() and not path.is_dir():
        raise ValueError(f"A run directory must be a directory. Received: the file {path}")
    for name in (*_FILES, *_FOLDERS):
        own(path, name)
    for folder in board_path(path).glob("*"):
        own(board_path(path), folder.name)
    held = [name for name in _FILES if (path / name).exists()]
    held += [file.name for file in sorted(backup_path(path).glob("*.backup"))]
    strange = [name for name in held if name in _FILES[2:]]
    if strange and not (path / "record.jsonl").exists():
        raise ValueError(
            f"{path} holds no run (it has no record.jsonl), but files under the names of one: "
            f"{', '.join(strange)}. They may be yours. Move them, or choose another run_dir."
        )
    if held and not (overwrite or resume):
        raise ValueError(
            f"{path} already holds a run ({', '.join(held)}). Choose another run_dir, or give "
            "--resume to go on with that run, or --overwrite to replace it."
        )


def create(directory, overwrite=False, resume=False):
    """Make a run directory and return its path; arguments and errors as in `check`.

    The files of the run that is there go, and nothing else. In `export/` these are the files that its
    report names, in `tensorboard/` the events of its nets. Its backups stay, and where it goes on what
    TensorBoard shows of it.
    """
    check(directory, overwrite, resume)
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    files = [*_exported(path), *(() if resume else _events(path)), *(path / name for name in _FILES)]
    # The record goes last: without it the other files are not known as a run's.
    for file in sorted(files, key=lambda file: file.name == "record.jsonl"):
        if file.is_file() and not file.is_symlink():
            file.unlink()
    tidy(path)
    return path


def own(directory, name):
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


def _exported(path):
    """The files in `export/` that its report names; none where there is no report that can be read."""
    try:
        report = read_export(path)
    except ValueError:
        report = {}
    names = [row["file"] for row in report.values() if limits.is_name(row["file"])]
    folder = path / "export"
    return (
        [folder / name for name in (*names, *_EXPORT_FILES)] if (folder / "export.json").exists() else []
    )


def _events(path):
    """TensorBoard's files of the nets of a run."""
    folders = [folder for folder in board_path(path).glob("*") if _BOARDS.fullmatch(folder.name)]
    return [file for folder in folders for file in folder.glob("events.out.tfevents.*")]


def backup_path(directory):
    """Return where a run's backups are."""
    return pathlib.Path(directory) / "backup"


def board_path(directory):
    """Return where a run's TensorBoard files are."""
    return pathlib.Path(directory) / "tensorboard"


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
    """Write `record.jsonl` anew: one JSON object a line, `entries` are plain dicts with a `kind`."""
    path = pathlib.Path(directory) / "record.jsonl"
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(map(_line, entries)))


def append_record(directory, entry):
    """Add a line to `record.jsonl`, synced; where that fails the record is as it was."""
    line = _line(entry)
    with open(own(directory, "record.jsonl"), "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(f"{file.name}: there is no space left for a line")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def add_epoch(net, logs, densities=None):
    """Add an epoch to the entry of the net that trained it; what an epoch did not measure is `None`.

    Args:
        net: dict, an entry of `ADPrune.record`.
        logs: `{name: number}` of the epoch.
        densities: `{layer name: AE}` of the epoch, where they were measured.
    """
    for key, values in (("logs", logs), ("densities", densities or {})):
        for name in [name for name in values if name not in net[key]]:
            net[key][name] = [None] * net["epochs"]
        for name, series in net[key].items():
            series.append(None if values.get(name) is None else float(values[name]))
    net["epochs"] += 1


def net_entry(net):
    """Return an entry of `ADPrune.record` as a record holds it: ended, or `start` while it trains."""
    return {"kind": "start" if net["outcome"] == "training" else "net", **net}


def epoch_entry(net):
    """Return the last epoch of an entry of `ADPrune.record` as a record holds it."""
    last = {key: {name: s[-1] for name, s in net[key].items()} for key in ("logs", "densities")}
    return {"kind": "epoch", "start": net["start"], **last}


def read_record(directory):
    """Read `record.jsonl` of a run directory, of a run that still trains or was killed too.

    Sizes, types and nesting are checked (`schema`). A last line that was only written in part is
    left out, with a warning.

    Returns:
        list of dicts: the first is of kind `"run"`; one of kind `"net"` for each net that trained, that
        which trains included; one of kind `"result"` where training has ended.

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
        entries = _entries(path)
        newer = entries[0].get("schema")
        if not (isinstance(newer, int) and newer > SCHEMA):
            for entry in entries:
                schema.check(entry)
            return _merged(entries)
    except Exception as e:  # a parser may raise anything on a hostile file
        raise ValueError(f"The record of a run is damaged. Received: {path}: {e}") from e
    raise ValueError(
        f"{path} has schema {newer}, and this version reads up to {SCHEMA}. Update adprune_keras."
    )


def read_run(directory):
    """Read a run directory's record as a `Run`; errors as in `read_record`."""
    entries = read_record(directory)
    nets = [entry for entry in entries if entry["kind"] == "net"]
    result = next((entry for entry in entries if entry["kind"] == "result"), None)
    return Run(pathlib.Path(directory).resolve().name, entries[0], nets, result)


def settings(run):
    """Return the flags of a `Run` as an object with attributes, those it has not at their defaults.

    A record may come from elsewhere: it never starts a download, whatever it says.

    Raises:
        ValueError: its `data_dir` is an address, not a folder.
    """
    values = _SETTINGS | run.header["flags"] | {"download": False}
    if "://" in (values["data_dir"] or ""):
        raise ValueError(
            "The data of a run are read from this machine, whatever its record names. "
            f"Received: data_dir={values['data_dir']!r} in the record of {run.name}"
        )
    return types.SimpleNamespace(**values)


def _line(entry):
    return json.dumps(plain(entry), allow_nan=False).encode() + b"\n"


def _entries(path):
    """The lines of a record, parsed, each with a bounded length."""
    entries = []
    limits.check_size("it", path.stat().st_size, _MOST_RECORD)
    with open(path, "rb") as file:
        while line := file.readline(_MOST_LINE + 1):
            limits.check_size("a line", len(line), _MOST_LINE)
            try:
                entries.append(json.loads(line.decode(), parse_constant=_refuse))
            except ValueError:
                if line.endswith(b"\n") or not entries:
                    raise
                warnings.warn(f"{path} ends in a half-written line, which is left out.", stacklevel=4)
    if not entries or not isinstance(entries[0], dict) or entries[0].get("kind") != "run":
        raise ValueError("its first line is not of kind 'run'")
    return entries


def _refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def _merged(entries):
    """The run, its nets and the result: starts and epochs of nets that ended since are left out."""
    nets, results = [], []
    for entry in entries[1:]:
        kind, training = entry["kind"], nets and nets[-1]["outcome"] == "training"
        if kind == "run" or results or (kind == "epoch" and not training):
            raise ValueError(f"a line of kind '{kind}' stands where none can be")
        if kind == "result":
            results.append(entry)
        elif kind == "epoch":
            add_epoch(nets[-1], entry["logs"], entry["densities"])
            if schema.values(nets[-1]) > schema.MOST_VALUES:  # now: each name costs a value an epoch
                schema.check_nets(nets)
        elif nets and nets[-1]["start"] == entry["start"]:
            nets[-1] = entry | {"kind": "net"}
        else:
            nets.append(entry | {"kind": "net"})
    nets = [net for net in nets if net["epochs"] or net["outcome"] != "training"]
    schema.check_nets(nets)
    return [entries[0], *nets, *results]


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
        for key, array in limits.read_npz(path, _MOST_MAPS).items():
            net, name = key.split("|", 1)
            if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
                raise ValueError(f"{key[:99]!r} has shape {array.shape} and dtype {array.dtype}")
            nets.setdefault(net, {})[name] = array
    except ValueError as e:
        raise ValueError(f"The activation maps of a run are damaged. Received: {path}: {e}") from e
    return nets


def read_export(directory):
    """Read `export/export.json`, the report of `adprune-export`; `{}` where the run was not exported.

    Returns:
        `{format: {"file", "bytes", "problems", ...}}`, as `export_model` returns it.

    Raises:
        ValueError: a damaged report.
    """
    path = pathlib.Path(directory) / "export" / "export.json"
    if not path.is_file():
        return {}
    try:
        limits.check_size("it", path.stat().st_size, _MOST_EXPORT)
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        schema.check_export(found)
    except Exception as e:  # a parser may raise anything on a hostile file
        raise ValueError(f"The export report of a run is damaged. Received: {path}: {e}") from e
    return found


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


def model_size(directory):
    """Return the bytes of a run's `final.keras`, or `None` where it has none."""
    path = pathlib.Path(directory) / "final.keras"
    return path.stat().st_size if path.is_file() else None


def load_model(path):
    """Load a `.keras` file as a `keras.Model`, in safe mode: no code and no pickle of it is run.

    Args:
        path: str or path.

    Raises:
        ValueError: no `.keras` file, one that is larger unpacked than memory holds, or one that Keras
            does not load.
    """
    import keras

    path = pathlib.Path(path)
    try:
        if path.suffix != ".keras" or not path.is_file():
            raise ValueError("there is none, or under another name")
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
        limits.check_size("its members", sum(sizes), limits.memory() // 2)
        return keras.models.load_model(path, safe_mode=True)
    except Exception as e:  # Keras may raise anything on a hostile file
        raise ValueError(f"A model must be an existing .keras file. Received: {path}: {e}") from e


def plain(value):
    """Return `value` as JSON holds it: NaN and infinities as `None`, tuples as lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
