"""`record.jsonl`: one JSON object a line, each added when it is known and synced."""

import json
import os
import pathlib
import warnings
from dataclasses import dataclass

from adprune_keras.files import limits
from adprune_keras.files.atomic import atomic, own_path
from adprune_keras.record import schema
from adprune_keras.record.entry import add_epoch
from adprune_keras.text import plain

SCHEMA = 1
_MOST_RECORD, _MOST_LINE = 128 << 20, 16 << 20  # bytes; a long run of ResNet50 takes about 30 MB


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


def write_record(directory, entries):
    """Write `record.jsonl` anew: one JSON object a line, `entries` are plain dicts with a `kind`."""
    path = pathlib.Path(directory) / "record.jsonl"
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(map(_line, entries)))


def append_record(directory, entry):
    """Add a line to `record.jsonl`, synced; where that fails the record is as it was."""
    line = _line(entry)
    with open(own_path(directory, "record.jsonl"), "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(f"{file.name}: there is no space left for a line")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


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


def run_flags(run):
    """Return the flags of a `Run`.

    A record may come from elsewhere: it never starts a download, whatever it says.

    Raises:
        ValueError: its `data_dir` is an address, not a folder.
    """
    flags = run.header["flags"] | {"download": False}
    if "://" in (flags.get("data_dir") or ""):
        raise ValueError(
            "The data of a run are read from this machine, whatever its record names. "
            f"Received: data_dir={flags['data_dir']!r} in the record of {run.name}"
        )
    return flags


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
                entries.append(json.loads(line.decode(), parse_constant=refuse_constant))
            except ValueError:
                if line.endswith(b"\n") or not entries:
                    raise
                warnings.warn(f"{path} ends in a half-written line, which is left out.", stacklevel=4)
    if not entries or not isinstance(entries[0], dict) or entries[0].get("kind") != "run":
        raise ValueError("its first line is not of kind 'run'")
    return entries


def refuse_constant(constant):
    """Refuse NaN and infinities, which are not valid JSON."""
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
