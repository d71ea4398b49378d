"""What is installed: all rooms and flagfiles in the wheel, and a light environment that trains."""

import configparser
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIGHT = ("keras", "numpy", "absl-py", "jax")

TRAIN = """
import sys
import keras, numpy as np
from adprune_keras import ADPrune, layer_widths, models

model = models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[8] * 17)
model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
x, y = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32"), np.arange(64) % 4
model.fit(x, y, epochs=2, verbose=0, callbacks=[ADPrune(schedule=[1])])
assert sum(layer_widths(model).values()) < 17 * 8
model.save("small.keras")
again = keras.models.load_model("small.keras")
np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4)
assert "tensorflow" not in sys.modules
print("trained")
"""


def settings():
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_every_room_is_a_package():
    named = settings()["options"]["packages"].split()
    rooms = {path.parent for path in (ROOT / "adprune_keras").rglob("__init__.py")}
    found = {".".join(room.relative_to(ROOT).parts) for room in rooms}
    assert named == sorted(found | {"adprune_keras.configs", "adprune_keras.export"})


def run(*command, folder, code=0, **environment):
    """Run a command in a folder; return what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, folder=folder)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_all_that_the_commands_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("adprune_keras/")}
    wanted = {path.relative_to(ROOT) for path in (ROOT / "adprune_keras").rglob("*.py")}
    wanted |= {
        pathlib.Path("adprune_keras") / p.relative_to(ROOT) for p in (ROOT / "export").glob("*.py")
    }
    wanted |= {pathlib.Path("adprune_keras") / p.relative_to(ROOT) for p in (ROOT / "configs").iterdir()}
    wanted |= {p.relative_to(ROOT) for p in (ROOT / "adprune_keras/report/templates").iterdir()}
    wanted |= {pathlib.Path(p) for p in ("adprune_keras/py.typed", "adprune_keras/export/py.typed")}
    wanted |= {pathlib.Path("adprune_keras/data/sources/checksums.tsv")}
    assert held == {path.as_posix() for path in wanted if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_a_light_environment_trains_and_says_what_is_missing(wheel, tmp_path):
    """docs/start.md names these packages; pip's index must be reached."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    python, bin_ = tmp_path / "venv/bin/python", tmp_path / "venv/bin"
    index = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "XDG_"))}
    run(python, "-m", "pip", "install", "-q", *LIGHT, folder=tmp_path, **index)
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, folder=tmp_path, **index)
    (tmp_path / "train.py").write_text(TRAIN)
    jax = {"KERAS_BACKEND": "jax"}
    assert "trained" in run(python, "train.py", folder=tmp_path, **jax)

    def refused(command, *flags):
        return run(bin_ / command, *flags, folder=tmp_path, code=1, **jax).splitlines()

    needs = "needs packages that are not installed: {0}. Install them: pip install {0}"
    (line,) = refused("adprune-train", "--flagfile=digits", "--run_dir=run")
    assert line == "adprune-train: Training needs packages that are not installed: " + (
        "tensorflow, matplotlib. Install them: pip install tensorflow matplotlib"
    )
    (line,) = refused("adprune-report", "--run_dir=run")
    assert "pip install matplotlib jinja2" in line
    (line,) = refused("adprune-export", "--model=small.keras", "--formats=onnx")
    assert "pip install " in line and "tf2onnx" in line
    code = "from adprune_keras import ADPrune; ADPrune(backup_dir='backup').backup.open()"
    assert needs.format("filelock") in run(python, "-c", code, folder=tmp_path, code=1, **jax)
    code = "from adprune_keras import data; data.load('digits')"
    assert "pip install tensorflow" in run(python, "-c", code, folder=tmp_path, code=1, **jax)
