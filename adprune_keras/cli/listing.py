"""What `--list` shows: data sets, networks, flagfiles."""

import itertools

from adprune_keras import models
from adprune_keras.cli.flagfiles import local, shipped
from adprune_keras.report import paper
from adprune_keras.text import printable


def what_there_is():
    """Return the text of `--list`."""
    named = dict.fromkeys(study.dataset for study in paper.STUDIES.values())
    widths = {name: models.default_widths(name).values() for name in models.NETWORKS}
    files = {name: _headline(file) for name, file in shipped().items()}
    files |= {str(file): _headline(file) for file in local()}
    blocks = {
        "Data sets (--dataset):": {
            "digits": "scikit-learn's handwritten digits, 8 x 8 pixels, 10 classes; always at hand",
            "FILE.npz": "arrays x_train y_train x_test y_test, as in Keras",
            "DIRECTORY": "images in one folder per class, or such folders in train/ and test/ (or val/)",
            ", ".join(named): "of TensorFlow Datasets, as every other image classification set in "
            "https://www.tensorflow.org/datasets/catalog; --download fetches what is not there",
        },
        "Networks (--network):": {
            name: f"{len(found)} widths, {min(found)} to {max(found)}" for name, found in widths.items()
        },
        "Flagfiles (--flagfile):": files,
    }
    lines = []
    for title, entries in blocks.items():
        left = 2 + max(map(len, entries))
        lines += [title, *(f"  {name:<{left}}{about}" for name, about in entries.items()), ""]
    return "\n".join(lines).rstrip()


def _headline(file):
    """What the comment that a flagfile begins with says before its first colon or full stop."""
    with file.open(encoding="utf-8", errors="replace") as opened:
        words = itertools.takewhile(lambda line: line.startswith("# "), opened.read(4096).splitlines())
        text = " ".join(line[2:].strip() for line in words)
    return printable(text.partition(". ")[0].partition(": ")[0].rstrip("."))
