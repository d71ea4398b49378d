"""Throws hostile flags, flagfiles, records, widths, arrays and archives at whatever reads them.

    python benchmarks/fuzz.py [--cases=6000]

Each case must end in success or in one error of one line, within a minute. Prints how many of each kind
ended how, the longest case, and the largest memory. What falls out of that is printed as the smallest
case that hypothesis finds, and ends the run with 1. `tests/test_fuzz.py` runs a few cases of each kind.
"""

import collections
import contextlib
import functools
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import stat
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib

import keras
import numpy as np
from absl import app, flags, logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adprune_keras import data, models
from adprune_keras.cli import command, plan, train
from adprune_keras.counting.counts import COUNTS
from adprune_keras.data.settings import Images, Source
from adprune_keras.files import limits
from adprune_keras.models.plans import resolve_widths
from adprune_keras.prune.target import within_budget
from adprune_keras.prune.widths import WidthRule, next_widths
from adprune_keras.record import schema
from adprune_keras.record.directory import read_export, read_maps, save_figure
from adprune_keras.record.lines import read_run, run_flags
from adprune_keras.report import figures
from adprune_keras.report.paper_tables import TABLES
from adprune_keras.report.summary import summary
from adprune_keras.report.table import markdown_table
from adprune_keras.report.write import write_report
from adprune_keras.settings import from_values
from adprune_keras.text import plain
from adprune_keras.train.settings import Network, Training

SECONDS = 60  # that a case may take
SHARES = {
    "flags": 1,
    "plans": 1,
    "flagfiles": 2,
    "records": 3,
    "widths": 3,
    "npz": 2,
    "maps": 1,
    "zips": 2,
}

# --- flags

_INTS = ["0", "1", "2", "3", "7", "8", "-1", "64", "4294967295", "4294967296", "9" * 30]
_FLOATS = ["0", "1", "0.5", "1e-3", "-1", "nan", "inf", "-inf", "1e308", "1e-320", "2"]
_WORDS = [
    "",
    " ",
    "a",
    "é",
    "\0",
    "\n",
    "\ud800",
    "..",
    "/",
    "%s",
    "{}",
    "x" * 300,
    "--x",
    ".*",
    "(",
    "a,b,,",
]
_LISTS = [
    ",",
    "4",
    "8,8",
    "4,4,4,4,4,4,4,4",
    "1,,2",
    "-1",
    "0",
    "9" * 12 + ",1",
    "1e3",
    "2,1",
    "x",
    "1,2",
]
_LISTS += ["4,4,4,4,4,4,4,-4", ",".join(["9" * 9] * 8), "onnx", "coreml", "1"]
_DATASETS = [
    "digits",
    "digit",
    "cifar10",
    "nothing.npz",
    "nothing/",
    "x:y",
    "bad.npz",
    "/dev/null",
    "empty",
]
_NAMES_OF_LAYERS = [".*", "block1_conv1", "block.*", "(", "[", "x", "", "logits"]
_TYPED = {
    "int": _INTS,
    "float": _FLOATS,
    "comma separated list of strings": _LISTS,
    "bool": ["true", "false"],
}
_FLAGS = [
    "--{}={}",
    "--{}={}",
    "--{}={}",
    "--{}={}",
    "--{} {}",
    "--no{}",
    "--{}",
    "{}",
    "-{}={}",
    "--{}={}",
    "--{}={}",
]
# Small, or a case takes as long as the network is large.
_BASE = ["--dataset=digits", "--network=VGG11", "--width_scale=0.03125", "--train_examples=50"]
_BASE += ["--test_examples=9"]


_VALUES = {"dataset": _DATASETS, "include": _NAMES_OF_LAYERS, "exclude": _NAMES_OF_LAYERS}
_VALUES |= {"model": ["net.keras", "bad.npz", "bad.keras", "empty", "/dev/zero", "no.keras"]}
_VALUES |= {"output": ["new.keras", "net.keras", "new.h5", "no/new.keras", "empty", "/dev/null"]}


@st.composite
def arguments(draw, of="train"):
    """Draw a command line of a command: mostly its own flags, mostly with wrong values."""
    found, known = [], _FLAGS_OF[of]()
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from([*known, "flagfil"]))
        flag = known.get(name)
        kind = "" if flag is None else flag.flag_type()
        values = _VALUES.get(name, _TYPED.get(kind, _WORDS))
        if kind == "string enum" and name != "network":  # other networks take a minute to build
            values = [value for value in flag.parser.enum_values if value != "data_parallel"]
        value = draw(st.sampled_from(values))
        if draw(st.integers(0, 9)) == 0:
            value = draw(st.sampled_from(_WORDS + _LISTS) | st.text(max_size=8))
        form = draw(st.sampled_from(_FLAGS))
        found += form.format(name, value).split(" ", 1) if " {}" in form else [form.format(name, value)]
    return found


@contextlib.contextmanager
def _flags_of(command_):
    """The flags of a command, for a while: two commands have some of the same name."""
    before = set(flags.FLAGS)
    groups = command_.define_flags()
    try:
        yield {flag.name: flags.FLAGS[flag.name] for members in groups.values() for flag in members}
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


@functools.cache
def _known(command_):
    with _flags_of(command_) as known:
        return known


_FLAGS_OF = {"train": lambda: _known(train), "plan": lambda: _known(plan)}


def try_flags(found):
    """Everything that `adprune-train` does up to its first step."""
    with _folder() as folder:
        _train(["adprune-train", *_BASE, "--run_dir=run", "--epochs=2", *found], folder)


_PLAN = ["--width_scale=0.03125", "--network=VGG11", "--input_shape=8,8,1", "--examples=50"]


def try_plan(found):
    """Everything that `adprune-plan` does."""
    with _folder() as folder, _flags_of(plan), _inside(folder):
        _net().save(folder / "net.keras")
        (folder / "bad.keras").write_bytes(b"PK\x03\x04")
        argv = [] if any(text.startswith("--model") for text in found) else _PLAN
        command.attempt("adprune-plan", plan.act, command.parse(["adprune-plan", *argv, *found]))
        assert {path.name for path in folder.glob("*")} <= {
            *("net.keras", "bad.keras", "bad.npz", "empty", "new.keras")
        }


@functools.cache
def _net():
    return models.VGG11(input_shape=(8, 8, 1), widths=[4] * 8)


@contextlib.contextmanager
def _inside(folder):
    """A folder with some things in it as the working directory."""
    home = pathlib.Path.cwd()
    os.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "bad.npz").write_bytes(b"PK\x03\x04")
    try:
        yield
    finally:
        os.chdir(home)


class _Enough(Exception):
    """Training would begin."""


def _begin(model, x, callbacks=(), **_):
    for callback in callbacks:
        callback.set_params({"epochs": 2})
        callback.set_model(model)
        callback.on_train_begin()
    raise _Enough


def _train(argv, folder):
    fit, keras.Model.fit = keras.Model.fit, _begin
    try:
        with _flags_of(train), _inside(folder), contextlib.suppress(_Enough):
            command.attempt("adprune-train", train.act, command.parse(argv))
    finally:
        keras.Model.fit = fit


# --- flagfiles

_LINES = st.one_of(
    arguments().map("\n".join),
    st.sampled_from(
        ["# comment", "//", "--flagfile", "--flagfile=", "--flagfile=f", "--flagfile=g", "--"]
    ),
    st.sampled_from(
        ["--flagfile=.", "--flagfile=/dev/zero", "--flagfile=~", "--undefok=x", "--x", '"', "'"]
    ),
    st.text(max_size=20),
)
flagfiles = st.tuples(
    st.lists(_LINES, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
    st.binary(max_size=30),
)


def try_flagfile(found):
    """The parser alone: what follows is what it does with flags."""
    first, second = found
    with _folder() as folder:
        (folder / "f").write_bytes(first)
        (folder / "g").write_bytes(second)
        with _flags_of(train), _inside(folder):
            command.parse(["adprune-train", *_BASE, "--run_dir=run", "--flagfile=f"])


# --- records


def header():
    """Return the first line of a record that is all right."""
    names = {"network": "VGG11", "dataset": "digits.npz", "batch_size": 8, "widths": None, "seed": 0}
    names |= {"width_scale": 0.25, "train_examples": None, "image_size": 8, "download": False}
    facts = {"classes": 10, "train_examples": 5, "input_shape": [8, 8, 1], "mean": [1.5]}
    return {"kind": "run", "schema": 1, "versions": {"keras": "3"}, "flags": names, "data": facts}


def net(number, start, epochs, outcome):
    """Return a net as a record holds it."""
    reductions = dict.fromkeys(COUNTS, 1.5 + number)
    return {
        **{"kind": "net", "net": number, "start": start, "epochs": epochs, "widths": {"a": 8, "b": 4}},
        **{"cost": {c: {"macs": 9, "params": 8} for c in COUNTS}, "profile": "flat", "reason": "x"},
        **{"ops_reduction": reductions, "params_reduction": reductions, "outcome": outcome},
        "logs": {
            "loss": [1.0] * epochs,
            "val_accuracy": [0.5] * epochs,
            "activation_density": [0.5] * epochs,
        },
        "densities": {"a": [0.5] * epochs, "b": [None] * epochs},
        "channel_densities": {"a": [0.5]},
        "layer_costs": {"a": {"macs": 9, "params": 7, "bias": 1, "owns_width": True}},
        **{"rebuild_seconds": 0.5, "retrace_seconds": None},
    }


def entries():
    """Return a record that is all right: a net that ended, one that trains."""
    epoch = {"kind": "epoch", "start": 2, "logs": {"val_accuracy": 0.5}, "densities": {"a": 0.5}}
    second = net(1, 2, 0, "training") | {"kind": "start", "logs": {}, "densities": {}}
    return [header(), net(0, 0, 2, "pruned"), second, epoch, epoch]


def exported():
    """Return the report of an export that is all right: one file verified, one that failed."""
    row = {"file": "model.onnx", "bytes": 9, "problems": [], "macs": 9, "accuracy": 50.0, "worst": 0.1}
    return {"onnx": row, "tflite": row | {"bytes": None, "problems": ["NaN"], "macs": None}}


_HOSTILE = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 2.5, 10**9, 10**30, 1e308, "", "x", "|`\n<b>$\\frac$", "\ud800", "../x"]
    ),
    st.sampled_from(
        [float("nan"), float("inf"), [], {}, [[]], ["x"], {"": 1}, "x" * 5000, [[[[[[[[[]]]]]]]]]]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


_EVIL_TEXT = [
    "|`\n<b>$\\frac$",
    "../../x",
    "\x1b[2J",
    "$",
    "_x",
    "=1+1",
    "x" * 4096,
    "",
    "{}",
    "%s",
    "\0",
    "é",
]
_ALIKE = {
    int: st.integers(0, 9) | st.sampled_from([-1, 999, 10**15]),
    float: st.floats(allow_nan=False) | st.floats(0, 1) | st.sampled_from([1e38, 1e-30, 1e8, -1e38]),
    str: st.sampled_from(
        [*_EVIL_TEXT, "ResNet18", "VGG19", "cifar10", "cifar100.npz", *schema.OUTCOMES]
    ),
}


def _at(value, path):
    return _at(value[path[0]], path[1:]) if path else value


def _places(value, path=()):
    """Every place in a value, as the keys that lead there."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def _changed(value, path, new, drop):
    if not path:
        return new
    key, *rest = path
    value = dict(value) if isinstance(value, dict) else list(value)
    if drop and not rest:
        del value[key]
    else:
        value[key] = _changed(value[key], rest, new, drop)
    return value


def _hostile(draw, good):
    """Change up to three places of a value, some of them for others of the same type."""
    for _ in range(draw(st.integers(0, 3))):
        deep = draw(st.integers(0, 9)) > 0  # else whole lines
        places = [path for path in _places(good) if len(path) > deep]
        if not places:
            break
        place = draw(st.sampled_from(places))
        new, mild = draw(_HOSTILE), draw(st.booleans())
        if mild:  # of the same type, so that it comes further
            new = draw(_ALIKE.get(type(_at(good, place)), st.just(_at(good, place))))
        good = _changed(good, place, new, drop=not mild and draw(st.booleans()))
    return good


@st.composite
def records(draw):
    """Draw the bytes of a `record.jsonl`, values, lines or bytes changed, and the text of an export."""
    lines = _hostile(draw, entries())
    lines = lines if isinstance(lines, list) else [lines]
    if draw(st.integers(0, 5)) == 0:
        lines = draw(st.permutations(lines)) + lines[: draw(st.integers(0, 2))]
    text = "\n".join(json.dumps(line) for line in lines) + "\n"
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    if content and draw(st.integers(0, 9)) == 0:
        for _ in range(draw(st.integers(1, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    export = json.dumps(_hostile(draw, exported()) if draw(st.booleans()) else exported())
    return bytes(content), export, draw(st.integers(0, 7)) == 0


def try_record(found):
    """What `adprune-report` and `adprune-export` make of it; page and figures of one in eight."""
    content, export, drawn = found
    with _folder() as folder:
        (folder / "record.jsonl").write_bytes(content)
        (folder / "export").mkdir()
        (folder / "export" / "export.json").write_text(export)
        one = read_run(folder)
        read_export(folder)
        if drawn:
            write_report([folder])
        elif one.nets and any(entry["epochs"] for entry in one.nets):
            for make in TABLES.values():
                table = make([one])
                assert (
                    len({line.count("|") for line in table.markdown().splitlines() if "|" in line}) <= 9
                )
                table.csv().encode()
            summary(one.nets).encode()
        for kind in (Source, Images, Network, Training):
            from_values(kind, run_flags(one))
        json.dumps(plain([entry["widths"] for entry in one.nets]), allow_nan=False)


# --- widths

_ANY_NUMBER = st.one_of(
    st.integers(-5, 600),
    st.floats(0, 1),
    st.floats(),
    st.sampled_from([None, True, "8", 10**30, 1e308, np.float32(0.5), np.int64(7), np.float64("nan")]),
)
_NAMES = st.sampled_from(["a", "b", "c", "block1_conv1", ""])
_PATTERNS = (
    st.none()
    | st.sampled_from(["a", ".*", "(", "[", "a|b", ""])
    | st.lists(_NAMES, max_size=2)
    | st.just(5)
)
width_cases = st.fixed_dictionaries(
    {
        "rule": st.fixed_dictionaries(
            {},
            optional={
                **{"min_width": _ANY_NUMBER, "round_to": _ANY_NUMBER, "max_shrink": _ANY_NUMBER},
                **{"include": _PATTERNS, "exclude": _PATTERNS},
            },
        ),
        "widths": st.dictionaries(_NAMES, st.integers(1, 2048), min_size=1, max_size=4),
        "densities": st.dictionaries(_NAMES, st.floats(0, 1), min_size=3, max_size=5)
        | st.dictionaries(_NAMES, _ANY_NUMBER, max_size=4),
        "budget": st.floats(1, 1e6),
        "asked": st.none()
        | st.lists(_ANY_NUMBER, max_size=4)
        | st.dictionaries(_NAMES, _ANY_NUMBER, max_size=3),
    }
)


def try_widths(case):
    """New widths are never wider, never narrower than the floor, and of the right multiple."""
    resolve_widths(["a", "b", "c"], [4, 8, 16], case["asked"], "toy")
    rule = WidthRule(**case["rule"])
    before = case["widths"]
    new = next_widths(before, case["densities"], rule)
    assert list(new) == list(before)
    assert all(min(before[n], rule.min_width) <= w <= before[n] for n, w in new.items())

    def reduction(candidate):
        return sum(before.values()) / sum(candidate.values())

    within, reached = within_budget(before, new, reduction, case["budget"])
    assert reduction(within) <= case["budget"] * 1.0001
    assert reached or within == new


# --- npz

_SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)
_DTYPES = st.sampled_from(
    ["u1", "u1", "u1", "i8", "i4", "u8", "f4", "f8", "?", "c16", "S3", "U2", "M8[s]", "V0"]
)


@st.composite
def arrays(draw, part):
    """Draw an array of a data set; half of them are right."""
    images, name = (12 if part == "train" else 6), draw(st.sampled_from("xy"))
    shape = draw(st.sampled_from([(8, 8), (8, 8, 1), (8, 8, 3), (1, 1, 1), (2, 3, 2), (30, 1)]))
    if draw(st.booleans()):
        return None
    if draw(st.booleans()):
        shape, dtype = draw(_SHAPES), draw(_DTYPES)
        return name, np.zeros(shape, dtype)
    if name == "x":
        return name, np.arange(images * int(np.prod(shape))).reshape(images, *shape).astype("u1")
    labels = np.arange(images) % draw(st.integers(1, 5))
    return name, (labels * draw(st.sampled_from([1, 1, 1, 2, -1, 2**40])))[
        :, *[None] * draw(st.integers(0, 1))
    ]


@st.composite
def npz_files(draw):
    """Draw the bytes of an `.npz` file: good arrays, wrong ones, claims, and broken archives."""
    shape = draw(st.sampled_from([(8, 8), (8, 8, 1), (8, 8, 3), (1, 1, 1), (2, 3, 2)]))
    contents = {
        "x_train": np.zeros((12, *shape), "u1"),
        "y_train": np.arange(12) % 3,
        "x_test": np.zeros((6, *shape), "u1"),
        "y_test": np.arange(6) % 3,
    }
    for part in ("train", "test"):
        if changed := draw(arrays(part)):
            contents[f"{changed[0]}_{part}"] = changed[1]
    if draw(st.integers(0, 6)) == 0:
        contents.pop(draw(st.sampled_from(sorted(contents))))
    members = {name: _npy(array) for name, array in contents.items()}
    if members and draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(members)))
        members[name] = draw(claims() | st.binary(max_size=40))
    file = io.BytesIO()
    kind = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return _damaged(draw, file.getvalue())


def _npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


@st.composite
def claims(draw):
    """Draw a `.npy` file whose header says whatever it likes."""
    numbers = st.integers(-2, 3) | st.sampled_from([10**6, 10**12, 2**63, 10**30])
    shape = draw(
        st.lists(numbers, max_size=4).map(tuple) | st.sampled_from(["x", None, (1.5,), "(" * 500, ()])
    )
    descr = draw(
        st.sampled_from(["|u1", "<i8", "|O", "|V0", "<U0", "nonsense", "|u1|", [("a", "<i4")], None])
    )
    text = f"{{'descr': {descr!r}, 'fortran_order': {draw(st.booleans())}, 'shape': {shape}, }}\n"
    text = draw(st.just(text) | st.just(text[:-4]) | st.text(max_size=20) | st.just("[" * 5000))
    version = draw(st.sampled_from([(1, 0), (1, 0), (2, 0), (3, 0), (9, 9)]))
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text.encode()))
    return b"\x93NUMPY" + bytes(version) + length + text.encode() + bytes(draw(st.integers(0, 50)))


def _damaged(draw, content):
    content = bytearray(content)
    if content and draw(st.integers(0, 9)) == 0:
        for _ in range(draw(st.integers(1, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 15)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return bytes(content)


def try_npz(content):
    """Load it as a data set, and take its first batches."""
    with _folder() as folder:
        (folder / "d.npz").write_bytes(content)
        loaded = data.load(str(folder / "d.npz"), batch_size=4)
        x, y = next(iter(loaded.train.as_numpy_iterator()))
        assert x.shape[1:] == loaded.input_shape and np.isfinite(x).all()
        assert 0 <= y.min() <= y.max() < loaded.classes


# --- maps.npz


@st.composite
def map_files(draw):
    """Draw the bytes of a `maps.npz`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for _ in range(draw(st.integers(0, 3))):
            name = draw(
                st.sampled_from(["net0|image", "net0|a", "net1|$\\frac$", "x", "|", "../n|a\n", "a|b|c"])
            )
            values = st.sampled_from([0.0, 1.0, np.nan, np.inf, 1e300])
            good = st.tuples(st.integers(1, 4), st.integers(1, 4), values).map(
                lambda v: np.full(v[:2], v[2])
            )
            odd = st.builds(np.zeros, _SHAPES, _DTYPES)
            member = draw(good.map(_npy) | odd.map(_npy) | claims())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that are there twice
                archive.writestr(f"{name}.npy", member)
    return _damaged(draw, file.getvalue()), draw(st.integers(0, 9)) == 0


def try_maps(found):
    """Read it; Fig. 5 of one in ten."""
    content, drawn = found
    with _folder() as folder:
        (folder / "maps.npz").write_bytes(content)
        maps = read_maps(folder)
        if drawn and maps:
            save_figure(folder, "f.png", figures.figure_5(maps))


# --- archives

_PART = st.sampled_from(
    ["top", "a", "b.txt", "..", ".", "", "/", "\\", "C:", "\0", "é", "a" * 300, " ", "~", "top\n"]
)


@st.composite
def archives(draw):
    """Draw the bytes of a zip archive that should hold one folder, `top`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for _ in range(draw(st.integers(0, 4))):
            parts = draw(st.lists(_PART, min_size=1, max_size=4))
            parts = parts if draw(st.booleans()) else ["top", *(p for p in parts if limits.is_name(p))]
            name = draw(st.sampled_from(["/", "/", "/", "\\", "//"])).join(parts)
            member = zipfile.ZipInfo(name)
            kinds = [0, stat.S_IFREG, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO]
            member.external_attr = draw(st.sampled_from(kinds)) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that are there twice
                archive.writestr(member, bytes(draw(st.sampled_from([0, 1, 10, 10**6]))))
    return _damaged(draw, file.getvalue())


def try_zip(content):
    """What passes the check unpacks into its folder, and into no more than was allowed."""
    with _folder() as folder:
        (folder / "a.zip").write_bytes(content)
        limits.check_zip(folder / "a.zip", "top", 1 << 20, 10)
        damage = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, zlib.error)
        with contextlib.suppress(*damage), zipfile.ZipFile(folder / "a.zip") as archive:
            archive.extractall(folder / "out")
        made = [path for path in folder.rglob("*") if path.name != "a.zip"]
        assert all(
            path == folder / "out" or path.is_relative_to(folder / "out" / "top") for path in made
        )
        assert sum(path.lstat().st_size for path in made if path.is_file()) <= 1 << 20


# --- running

KINDS = {
    "flags": (arguments(), try_flags),
    "plans": (arguments(of="plan"), try_plan),
    "flagfiles": (flagfiles, try_flagfile),
    "records": (records(), try_record),
    "widths": (width_cases, try_widths),
    "npz": (npz_files(), try_npz),
    "maps": (map_files(), try_maps),
    "zips": (archives(), try_zip),
}


@contextlib.contextmanager
def _folder():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adprune-fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hang(*_):
    raise TimeoutError(f"A case took more than {SECONDS} s.")


def outcome(case, act):
    """Run a case; return how it ended, or raise where that is not allowed."""
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            act(case)
        return "success"
    except app.UsageError as e:
        kind, text = "UsageError", str(e)
    except ValueError as e:
        kind, text = "ValueError", str(e)
    except SystemExit as e:
        if not isinstance(e.code, str):
            return f"exit {e.code or 0}"  # --help
        kind, text = "one line, exit 1", e.code
        assert len(text.splitlines()) == 1
    finally:
        signal.alarm(0)
    assert text.strip()
    return kind


def fuzz(kind, cases, seed=None):
    """Run so many cases of a kind.

    Returns:
        `(counter of outcomes, seconds of the longest case)`.
    """
    strategy, act = KINDS[kind]
    outcomes, longest = collections.Counter(), 0.0

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def one(case):
        nonlocal longest
        begin = time.perf_counter()
        outcomes[outcome(case, act)] += 1
        longest = max(longest, time.perf_counter() - begin)

    one()
    return outcomes, longest


def main(_):
    """Run all kinds and print the table."""
    logging.set_verbosity(logging.FATAL)
    rows, total, failed, wanted = [], 0, [], flags.FLAGS.cases
    for kind, share in SHARES.items():
        cases = -(-wanted * share // sum(SHARES.values()))
        begin = time.perf_counter()
        try:
            outcomes, longest = fuzz(kind, cases)
        except Exception as e:  # what this is looking for
            failed.append(kind)
            notes = "\n".join(getattr(e, "__notes__", ()))
            print(f"{kind}: {type(e).__name__}: {e}\n{notes}\n", file=sys.stderr)
            continue
        total += outcomes.total()
        ended = ", ".join(f"{count} {how}" for how, count in outcomes.most_common())
        spent = f"{time.perf_counter() - begin:.0f} s"
        rows.append((kind, f"{outcomes.total():,}", ended, f"{longest:.1f} s", spent))
        print(f"{kind}: {ended}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n" + "\n".join(markdown_table(("kind", "cases", "ended in", "longest", "all"), rows)))
    print(f"\n{total:,} cases; at most {peak:.2f} GiB of memory.")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    flags.DEFINE_integer("cases", 6000, "Cases of all kinds together.", 1)
    app.run(main)
