"""The public API's annotations: there, true to a type checker, and shipped."""

import configparser
import dataclasses
import inspect
import pathlib
import re
import shutil
import subprocess
import sys
import typing

import keras
import pytest

import adprune_keras
from adprune_keras import export, models
from adprune_keras.backup.callback import Backup

ROOT = pathlib.Path(__file__).parent.parent
CALLED_BY_USERS = {
    **{name: thing for name in adprune_keras.__all__ for thing in [getattr(adprune_keras, name)]},
    **{name: thing for name, thing in vars(models).items() if name in models.NETWORKS},
    "default_widths": models.default_widths,
    "export_model": export.export_model,
    "VerificationError": export.VerificationError,
    "Backup": Backup,
}
CALLED_BY_USERS = {k: v for k, v in CALLED_BY_USERS.items() if callable(v)}
# What Keras and the commands call.
HOOKS = ("settings", "get_state", "set_state", "kept", "open", "check", "close", "abandon", "set_model")

SCRIPT = """
import numpy as np
from adprune_keras import *
from adprune_keras import models
from adprune_keras.export import export_model

model = models.ResNet18(input_shape=(32, 32, 3), classes=4, widths={"stem_conv": 8})
images = np.zeros((4, 32, 32, 3), "float32")
prune = ADPrune(schedule=range(2, 7), rule=WidthRule(exclude=["stem_.*"]), backup_dir="b")
reveal_type(prune.record)
reveal_type(prune.record[0]["widths"])
reveal_type(prune.record[0]["kept_channels"])
reveal_type(prune.final)
reveal_type(prune.planned_epochs)
densities = activation_density(model, images)
reveal_type(densities)
reveal_type(layer_widths(model))
reveal_type(cost(model).rows[0].layer)
reveal_type(cost(model).deployed.macs)
reveal_type(ops_reduction(model, cost(model), count="deployed"))
reveal_type(training_complexity([(1, 100), (6.0, 210)]))
reveal_type(prune.plan(model, {"stem_conv": 0.5}))
reveal_type(export_model(model, "out", ["onnx"], (images, np.zeros(4))))
reveal_type(WidthRule()(64, 0.5))
resize(model, {"stem_conv": 8}, weights="inherit", densities=densities, shortcuts="couple")

ADPrune(0.1)  # type: ignore[call-arg]
ADPrune(target="small")  # type: ignore[arg-type]
ADPrune(weights="all")  # type: ignore[arg-type]
ADPrune(patiense=2)  # type: ignore[call-arg]
resize(model, {"stem_conv": "8"})  # type: ignore[dict-item]
ops_reduction(model, model, count="both")  # type: ignore[arg-type]
models.VGG19(width=3)  # type: ignore[call-arg]
export_model(model, "out", ["onnx"], batch_size="1")  # type: ignore[arg-type]
"""
REVEALED = [
    "list[NetEntry]",
    "dict[str, int]",
    "dict[str, list[int]] | None",
    "bool",
    "int",
    "dict[str, ndarray[tuple[Any, ...], dtype[float64]]]",
    "dict[str, int]",
    "str",
    "int",
    "float",
    "float",
    "dict[str, Any]",
    "dict[str, dict[str, Any]]",
    "int",
]


def signatures():
    """Yield (name, function) of everything that users call."""
    for name, thing in CALLED_BY_USERS.items():
        if not inspect.isclass(thing):
            yield name, thing
            continue
        if not dataclasses.is_dataclass(thing):
            yield f"{name}.__init__", thing.__init__
        for key, member in vars(thing).items():
            if key.startswith(("_", "on_")) and key != "__call__":
                continue
            if isinstance(member, property):
                member = member.fget
            if inspect.isfunction(member) and key not in HOOKS:
                yield f"{name}.{key}", member


def test_everything_that_users_call_is_annotated():
    names = [name for name, _ in signatures()]
    assert len(names) > 25 and {"resize", "VGG19", "ADPrune.__init__", "WidthRule.__call__"} <= {*names}
    for name, function in signatures():
        hints = typing.get_type_hints(function, localns={"keras": keras})  # the factories name it lazily
        missing = {p for p in inspect.signature(function).parameters if p != "self"} - hints.keys()
        assert not missing and "return" in hints, f"{name}: {sorted(missing) or 'return'}"


def test_a_user_script_is_checked(tmp_path):
    pytest.importorskip("mypy")
    package = tmp_path / "package" / "adprune_keras"  # as it is installed
    shutil.copytree(ROOT / "adprune_keras", package)
    shutil.copytree(ROOT / "export", package / "export")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nfollow_imports = silent\nmypy_path = package\n"
        "[mypy-keras.*,tensorflow.*]\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir=cache", "script.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    revealed = [line.split('"')[1] for line in ran.stdout.splitlines() if "Revealed type" in line]
    assert "Success" in ran.stdout, ran.stdout + ran.stderr
    assert [named(text) for text in revealed] == REVEALED


def named(text):
    """A revealed type in short: without modules, typed dicts by their names."""
    text = text.replace("builtins.", "").replace("numpy.", "")
    before = None
    while text != before:  # from the innermost out
        before, text = text, re.sub(r"TypedDict\('?[\w.]*?(\w+)'?, \{[^{}]*\}\)", r"\1", text)
    return text


def test_the_marker_is_shipped_with_both_packages():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    shipped = settings["options.package_data"]
    for package, folder in (("adprune_keras", "adprune_keras"), ("adprune_keras.export", "export")):
        assert "py.typed" in shipped[package] and (ROOT / folder / "py.typed").exists()


def test_the_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert lines[0] == "cff-version: 1.2.0" and f"version: {adprune_keras.__version__}" in lines
