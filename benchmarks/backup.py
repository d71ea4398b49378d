"""What saving the state after every epoch costs: share of an epoch's time, within one run.

    python benchmarks/backup.py --data=cifar10.npz [--output=backup.json]

For each network (quarter width) one run that is pruned twice: in between a backup holds two nets.
Printed is the longest of the saves' seconds over the median of the epochs' (without the save).
"""

import pathlib
import statistics
import tempfile
import time

import keras
import setting
from absl import app, flags

from adprune_keras import ADPrune, data, models
from adprune_keras.backup.callback import Backup

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("batch_size", 128, "Images a step.")
    flags.DEFINE_integer("train_examples", 10000, "Training images.")
    flags.DEFINE_integer("epochs", 6, "Epochs.")


def measure(network, dataset):
    """Return `(seconds of each save, seconds of each epoch without, bytes of the last backup)`."""
    saves, epochs, save = [], [], Backup._save

    def timed(self, *args, **kwargs):
        begin = time.perf_counter()
        save(self, *args, **kwargs)
        saves.append(time.perf_counter() - begin)

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()  # after the save: ADPrune is first

        def on_epoch_end(self, epoch, logs=None):
            epochs.append(time.perf_counter() - self.begin)

    model = setting.network(network, dataset.classes, FLAGS.width_scale)
    Backup._save = timed
    try:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            prune = ADPrune(schedule=[FLAGS.epochs // 3, FLAGS.epochs - 1], backup_dir=folder, verbose=0)
            model.fit(
                dataset.epochs(0),
                steps_per_epoch=dataset.steps,
                epochs=FLAGS.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[prune, Clock()],
            )
            size = max(p.stat().st_size for p in pathlib.Path(folder).glob("*.backup"))
    finally:
        Backup._save = save
    return saves, epochs, size


def main(_):
    """Print the table."""
    dataset = data.load(
        FLAGS.data, batch_size=FLAGS.batch_size, train_examples=FLAGS.train_examples, seed=0
    )
    rows, found = [], []
    for network in FLAGS.network:
        saves, epochs, size = measure(network, dataset)
        share = max(saves) / statistics.median(epochs)
        rows.append((network, f"{max(saves):.3f}", f"{statistics.median(epochs):.1f}", f"{share:.2%}"))
        found.append({"network": network, "saves": saves, "epochs": epochs, "bytes": size})
    header = ("network", "longest save, s", "median epoch, s", "share")
    setting.report("a backup after every epoch", header, rows, found, FLAGS.output)


if __name__ == "__main__":
    define_flags()
    app.run(main)
