"""How long `adprune-report` takes, and how large its page is, for the record of a long run.

    python benchmarks/report.py [--epochs=300] [--runs=1] [--keep=DIRECTORY]

The record is made up: ResNet18 (17 layers) through the four nets of the paper's Table I on CIFAR-10,
with its widths and their true costs, and curves drawn by hand. Printed are the seconds of the whole
command in a process of its own, those of importing Keras with its backend and nothing else, those of
`report.write` alone, and the bytes of the page.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from adprune_keras import cost, models
from adprune_keras.record.entry import add_epoch, net_entry, open_entry
from adprune_keras.record.lines import SCHEMA, write_record
from adprune_keras.report import paper
from adprune_keras.report.table import markdown_table
from adprune_keras.report.write import write_report

FLAGS = flags.FLAGS
_NETS = paper.STUDIES["cifar10_resnet18"].nets
_SHARES = (100, 70, 70, 60)  # of 300 epochs


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_integer("epochs", 300, "Epochs of the run.", len(_NETS))
    flags.DEFINE_integer("runs", 1, "Runs on one page.", 1)
    flags.DEFINE_string("keep", None, "Directory for runs and report; default: a temporary one.")


def record(epochs, seed=0):
    """Return the entries of a record of ResNet18 through the nets of Table I."""
    rng = np.random.default_rng(seed)
    names = list(models.default_widths("ResNet18"))
    ends = np.round(np.cumsum(_SHARES) * epochs / sum(_SHARES)).astype(int).tolist()
    entries, start, baseline = [], 0, None
    for number, (net, end) in enumerate(zip(_NETS, ends, strict=True)):
        counted = cost(models.ResNet18(widths=net.widths))
        baseline = baseline or counted
        widths = dict(zip(names, net.widths, strict=True))
        entry = open_entry(widths, number, start, baseline, counted)
        saturation = 1 - np.exp(-np.arange(1, end - start + 1) / max(1, (end - start) / 5))
        for part in saturation:
            final = {name: 0.3 + 0.3 * i / len(names) for i, name in enumerate(names)}
            layers = {n: float(0.5 + (f - 0.5) * part + rng.normal(0, 0.004)) for n, f in final.items()}
            accuracy = float(net.accuracy / 100 * (0.3 + 0.7 * part) + rng.normal(0, 0.004))
            logs = {"accuracy": accuracy, "loss": 2.3 * (1 - part), "val_accuracy": accuracy - 0.01}
            logs |= {"val_loss": 2.4 * (1 - part), "learning_rate": 0.1 * (1 - part)}
            logs["activation_density"] = float(np.mean(list(layers.values())))
            add_epoch(entry, logs, layers)
        last = number == len(_NETS) - 1
        entry |= {
            "outcome": "final" if last else "pruned",
            "profile": "concave" if last else "convex",
            "reason": "" if last else "AE saturated: |delta| < 0.001 for 2 epochs",
            "channel_densities": {n: rng.uniform(0, 1, w).tolist() for n, w in widths.items()},
        }
        entries.append(net_entry(entry))
        start = end
    header = {
        "kind": "run",
        "schema": SCHEMA,
        "versions": {"keras": "3", "backend": "tensorflow"},
        "flags": {"network": "ResNet18", "dataset": "cifar10", "epochs": epochs, "seed": seed},
        "data": {"classes": 10, "train_examples": 50000},
    }
    return [header, *entries, {"kind": "result", "epochs": epochs, "fit_seconds": 1.0}]


def measure(directories, output):
    """Return (what, figure) of reporting some runs."""
    command = [sys.executable, "-m", "adprune_keras.cli.report", f"--output_dir={output}"]
    command += [f"--run_dir={directory}" for directory in directories]
    seconds = {
        "the whole command": _seconds(lambda: _run(command)),
        "importing Keras alone": _seconds(lambda: _run([sys.executable, "-c", "import keras"])),
        "report.write alone": _seconds(lambda: write_report(directories, output)),
    }
    rows = [(what, f"{value:.2f} s") for what, value in seconds.items()]
    entries = sum((pathlib.Path(d) / "record.jsonl").stat().st_size for d in directories)
    page = (pathlib.Path(output) / "index.html").stat().st_size
    return [*rows, ("records", f"{entries:,} bytes"), ("index.html", f"{page:,} bytes")]


def _run(command):
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet)


def _seconds(act):
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _main(_):
    with contextlib.ExitStack() as stack:
        folder = FLAGS.keep or stack.enter_context(tempfile.TemporaryDirectory())
        directories = [pathlib.Path(folder) / f"resnet18_{seed}" for seed in range(FLAGS.runs)]
        for seed, directory in enumerate(directories):
            directory.mkdir(parents=True, exist_ok=True)
            write_record(directory, record(FLAGS.epochs, seed))
        rows = measure(directories, pathlib.Path(folder) / "report")
    print("\n".join(markdown_table(("what", "measured"), rows)))


if __name__ == "__main__":
    define_flags()
    app.run(_main)
