"""Which epoch each setting of rho picks on recorded series of activation density.

    python benchmarks/criteria.py [docs/series/NAME.csv ...]
    python benchmarks/criteria.py --record=RUN_DIR --name=NAME    # adds a series from a dense run

The series (docs/series/) are those of dense networks that were never pruned (`adprune-train
--max_prunes=0`): what the criterion would have done can be judged by what accuracy did afterwards.
"""

import csv
import pathlib

from absl import app, flags

from adprune_keras.prune.schedule import Saturation, profile, saturated
from adprune_keras.record.lines import read_run
from adprune_keras.report.table import markdown_table

FLAGS = flags.FLAGS
FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "series"
COLUMNS = ("activation_density", "accuracy", "val_accuracy", "loss", "val_loss")
DEFAULT = Saturation()
SETTINGS = {
    "bare": {"patience": 1, "min_epochs": 1},
    "patience=2": {"patience": 2, "min_epochs": 1},
    "patience=3": {"patience": 3, "min_epochs": 1},
    "min_epochs=10": {"patience": 1, "min_epochs": 10},
    "default": {"patience": DEFAULT.patience, "min_epochs": DEFAULT.min_epochs},
    "rho=5e-4": {"rho": 5e-4},
    "rho=2e-3": {"rho": 2e-3},
}


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("record", None, "Run directory whose net0 becomes a new series.")
    flags.DEFINE_string("name", None, "Name of the new series.")


def picks(series, rho=DEFAULT.rho, patience=DEFAULT.patience, min_epochs=DEFAULT.min_epochs):
    """Return the first epoch count at which rho is met, or `None`."""
    for done in range(1, len(series) + 1):
        if saturated(series[:done], rho, patience, min_epochs):
            return done
    return None


def read(path):
    """Return a series file as `{column: list of float}`."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def record(directory, name):
    """Write a run's first net as a series."""
    first, *pruned = read_run(directory).nets
    logs = first["logs"]
    if pruned or not logs.keys() >= set(COLUMNS):
        raise app.UsageError(f"Expected a run with --max_prunes=0. Received: {directory}")
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("epoch", *COLUMNS))
        for epoch, values in enumerate(zip(*(logs[c] for c in COLUMNS), strict=True), 1):
            writer.writerow((epoch, *(f"{value:.6g}" for value in values)))


def table(paths):
    """Render a row a series: its epochs and end, and what each setting picks."""
    body = []
    for path in paths:
        columns = read(path)
        density, accuracy = columns["activation_density"], columns["val_accuracy"]
        chosen = [picks(density, **setting) for setting in SETTINGS.values()]
        cells = [f"{n} ({100 * accuracy[n - 1]:.0f} %)" if n else "never" for n in chosen]
        ends = f"{density[0]:.3f} to {density[-1]:.3f}, {profile(density, DEFAULT.rho)}"
        body.append((path.stem, f"{len(density)}, {100 * accuracy[-1]:.0f} %", ends, *cells))
    return "\n".join(markdown_table(("series", "epochs, end", "AE", *SETTINGS), body))


def main(argv):
    """Record a series where asked, and print the table."""
    if bool(FLAGS.record) != bool(FLAGS.name):
        raise app.UsageError("--record and --name go together.")
    if FLAGS.record:
        record(FLAGS.record, FLAGS.name)
    print(table([pathlib.Path(p) for p in argv[1:]] or sorted(FOLDER.glob("*.csv"))))
    print("Epoch count at which rho is met, with the test accuracy there.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
