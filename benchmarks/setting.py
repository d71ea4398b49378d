"""What the timed benchmarks share: the network that they train, and how they report."""

import json
import time

import keras

from adprune_keras import models
from adprune_keras.files.atomic import write_text
from adprune_keras.live import devices
from adprune_keras.report.table import markdown_table


class Epochs(keras.callbacks.Callback):
    """Seconds of each epoch, whatever was done before its first step included."""

    def on_train_begin(self, logs=None):
        self.seconds, self._begin = [], time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self._begin)
        self._begin = now


def network(name, classes, width_scale, channels=3):
    """Return a network for 32-pixel images, compiled; always with the same new weights."""
    keras.utils.set_random_seed(0)
    widths = models.default_widths(name)
    widths = {layer: max(1, round(width * width_scale)) for layer, width in widths.items()}
    model = models.NETWORKS[name](input_shape=(32, 32, channels), classes=classes, widths=widths)
    return compile_it(model)


def compile_it(model):
    """Compile a network as all benchmarks do, and return it."""
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=devices.jit_compile())
    return model


def report(title, header, rows, found, output):
    """Print a table under its title; write `found`, plain data, to a JSON file where one is named."""
    print(f"{keras.backend.backend()}: {title}")
    print("\n".join(markdown_table(header, rows)))
    if output:
        write_text(output, json.dumps({"backend": keras.backend.backend(), "rows": found}))
