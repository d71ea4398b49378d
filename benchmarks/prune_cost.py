"""What a prune costs: seconds of Python, seconds of the first step after it, memory over many prunes.

    python benchmarks/prune_cost.py [--output=prune_cost.json]

First table: ResNet18 and VGG-19 at full width, one prune of each kind, medians over --repeats. `rebuild`
is all from the decision to the new net in place (groups, new graph, slices of weights and slots, swap);
`retrace` is the first training step, of one image, so that tracing and compiling are what it takes.
Second table: resident memory of this process after each prune of one `fit` with --prunes of them.
"""

import gc
import json
import statistics
import warnings

import keras
import numpy as np
import psutil
from absl import app, flags

from adprune_keras import ADPrune, WidthRule, models
from adprune_keras.files.atomic import write_text
from adprune_keras.live import devices
from adprune_keras.prune.schedule import Saturation
from adprune_keras.report.table import markdown_table

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_integer("repeats", 3, "Prunes of each kind.")
    flags.DEFINE_integer("prunes", 30, "Prunes in one fit, for the memory.")
    flags.DEFINE_string("output", None, "A JSON file for the figures.")


def fit(model, images, epochs, **prune):
    """Train with `ADPrune(**prune)`; return its record, and the memory after each epoch."""
    x = np.random.normal(size=(images, 32, 32, 3)).astype("float32")
    y = np.random.randint(0, 10, images)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=devices.jit_compile())
    callback = ADPrune(schedule=Saturation(final_epochs=1), seed=0, verbose=0, **prune)
    after = _Memory()
    model.fit(x, y, batch_size=images, epochs=epochs, verbose=0, callbacks=[callback, after])
    return callback.record, after.bytes


class _Memory(keras.callbacks.Callback):
    """Resident memory at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.bytes = []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        self.bytes.append(psutil.Process().memory_info().rss)


def seconds(network, weights):
    """Return the seconds of one prune of a network of full width."""
    model = models.NETWORKS[network](input_shape=(32, 32, 3), classes=10)
    record, _ = fit(model, 1, epochs=2, schedule=[1], weights=weights)
    return record[0]["retrace_seconds"], record[1]["rebuild_seconds"], record[1]["retrace_seconds"]


def main(_):
    """Print both tables."""
    warnings.simplefilter("ignore")
    rows, found = [], {"backend": keras.backend.backend(), "seconds": {}}
    for network in ("ResNet18", "VGG19"):
        for weights in ("inherit", "random"):
            runs = [seconds(network, weights) for _ in range(FLAGS.repeats)]
            first, rebuild, retrace = (statistics.median(column) for column in zip(*runs, strict=True))
            rows.append((network, weights, *(f"{s:.2f} s" for s in (rebuild, retrace, first))))
            found["seconds"][f"{network} {weights}"] = {"rebuild": rebuild, "retrace": retrace}
            keras.utils.clear_session()
    header = ("network", "weights", "rebuild", "retrace", "first step of net0")
    print("\n".join(markdown_table(header, rows)))

    widths = {name: 128 for name in models.default_widths("VGG11")}
    model = models.VGG11(input_shape=(32, 32, 3), classes=10, widths=widths)
    epochs = list(range(1, FLAGS.prunes + 1))
    rule = WidthRule(max_shrink=0.03)  # some more channels of each layer
    _, memory = fit(model, 8, FLAGS.prunes + 1, schedule=epochs, rule=rule)
    megabytes = [m / 2**20 for m in memory]
    shown = sorted({0, 1, 4, 9, 14, len(memory) - 10, len(memory) - 5, len(memory) - 1})
    rows = [(i, f"{megabytes[i]:.0f}") for i in shown if i >= 0]
    print("\n" + "\n".join(markdown_table(("prunes", "resident MiB"), rows)))
    last = megabytes[-10:]
    spread = (max(last) - min(last)) / min(last)
    print(f"Last ten: {min(last):.0f} to {max(last):.0f} MiB, {100 * spread:.1f} % apart.")
    if FLAGS.output:
        write_text(FLAGS.output, json.dumps(found | {"megabytes": megabytes}))


if __name__ == "__main__":
    define_flags()
    app.run(main)
