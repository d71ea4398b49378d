"""The benchmarks take too long for a test; that what they import is there is one."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


def test_all_of_them_can_be_imported():
    names = [path.stem for path in sorted(FOLDER.glob("*.py"))]
    code = "\n".join(["import importlib", *(f"importlib.import_module({name!r})" for name in names)])
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
