"""Carries out what README, docs/ and examples/ show and takes minutes, as it stands.

    python benchmarks/docs.py
    python benchmarks/docs.py --only=notebook --write    # and keep the notebook's new outputs

`commands`: those on the quick start's run, in their order; `scripts`: examples/*.py, the fine-tuning on
the digits as folders of images, with new weights; `notebook`: examples/digits.ipynb. Takes about five
minutes on two CPU cores, and ends with the first that fails. tests/test_docs.py has the quick part.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
from absl import app, flags
from sklearn.datasets import load_digits

from adprune_keras.files.atomic import write_text

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "digits.ipynb"
PAGES = (ROOT / "README.md", ROOT / "docs" / "start.md")


def define_flags():
    """Define the flags of this check."""
    flags.DEFINE_multi_enum("only", [], list(PARTS), "Which; default: all.")
    flags.DEFINE_bool("write", False, "Keep the outputs of the notebook.")


def execute(words, folder):
    """Run a command in a folder; end with what it printed where it fails."""
    begin = time.perf_counter()
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    print(f"{time.perf_counter() - begin:6.1f} s  {' '.join(map(str, words))}", flush=True)
    if ran.returncode:
        sys.exit(f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")
    return ran.stdout


def commands(folder):
    """Run each command of the pages that reads or writes runs/digits, once."""
    (folder / "configs").symlink_to(ROOT / "configs")
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(r"^ *(adprune-.*--run_dir=runs/digits.*)$", text, re.MULTILINE)
    for words in dict.fromkeys(tuple(sorted(shlex.split(line, comments=True))) for line in found):
        execute([words[-1], *words[:-1]], folder)


def scripts(folder):
    """Run the scripts of examples/."""
    print(execute([sys.executable, ROOT / "examples" / "digits.py"], folder))
    x, y = load_digits(return_X_y=True)
    for i, (image, label) in enumerate(zip(x.reshape(-1, 8, 8, 1), y, strict=True)):
        place = folder / "photos" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image = np.kron(image, np.ones((4, 4, 1))) * 15
        keras.utils.save_img(place / f"{i}.png", image, scale=False)
    few = ("--dataset=photos", "--image_size=32", "--weights=none", "--learning_rate=0.001")
    print(execute([sys.executable, ROOT / "examples" / "fine_tune.py", *few], folder))


def notebook(folder):
    """Run the notebook's cells in a kernel."""
    import nbclient
    import nbformat

    found = nbformat.read(NOTEBOOK, as_version=4)
    begin = time.perf_counter()
    nbclient.NotebookClient(found, timeout=300, resources={"metadata": {"path": folder}}).execute()
    print(f"{time.perf_counter() - begin:6.1f} s  {NOTEBOOK.relative_to(ROOT)}", flush=True)
    if FLAGS.write:
        for cell in found.cells:
            cell.metadata = {}  # of when and where it ran
            if cell.cell_type == "code":  # what TensorFlow has to say to every reader
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        write_text(NOTEBOOK, nbformat.writes(found) + "\n")


PARTS = {"commands": commands, "scripts": scripts, "notebook": notebook}


def main(_):
    """Carry out the parts that are asked for, each in a folder of its own."""
    for name in FLAGS.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](pathlib.Path(folder))


if __name__ == "__main__":
    define_flags()
    app.run(main)
