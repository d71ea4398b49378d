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

import json
import pathlib
import re
import zipfile

import numpy as np

from adprune_keras.files import limits
from adprune_keras.files.atomic import atomic, own_path, tidy
from adprune_keras.record import schema
from adprune_keras.record.lines import read_run, refuse_constant

_MOST_MAPS, _MOST_EXPORT = 256 << 20, 1 << 20
_FILES = ("flags.txt", "record.jsonl", "final.keras", "summary.md", "density.png", "maps.npz")
_FOLDERS = ("backup", "export", "report", "tensorboard")
_EXPORT_FILES = ("README_model.md", "latency.json", "export.json")  # beside those that the last names
_BOARDS = re.compile(r"train|validation|net\d+")  # folders that `board.Board` writes


def check_directory(directory, overwrite=False, resume=False):
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
        own_path(path, name)
    for folder in board_path(path).glob("*"):
        own_path(board_path(path), folder.name)
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


def create_directory(directory, overwrite=False, resume=False):
    """Make a run directory and return its path; arguments and errors as in `check`.

    The files of the run that is there go, and nothing else. In `export/` these are the files that its
    report names, in `tensorboard/` the events of its nets. Its backups stay, and where it goes on what
    TensorBoard shows of it.
    """
    check_directory(directory, overwrite, resume)
    path = pathlib.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    files = [*_exported(path), *(() if resume else _events(path)), *(path / name for name in _FILES)]
    # The record goes last: without it the other files are not known as a run's.
    for file in sorted(files, key=lambda file: file.name == "record.jsonl"):
        if file.is_file() and not file.is_symlink():
            file.unlink()
    tidy(path)
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
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
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
