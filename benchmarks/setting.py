"""What the timed benchmarks share: the network that they train, and how they report."""

import json

import keras

from adprune_keras import models, run, tables
from adprune_keras.devices import jit_compile


def network(name, classes, width_scale):
    """Return a network for 32-pixel colour images, compiled; always with the same new weights."""
    keras.utils.set_random_seed(0)
    widths = models.default_widths(name)
    widths = {layer: max(1, round(width * width_scale)) for layer, width in widths.items()}
    model = models.NETWORKS[name](input_shape=(32, 32, 3), classes=classes, widths=widths)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile())
    return model


def report(title, header, rows, found, output):
    """Print a table under its title; write `found`, plain data, to a JSON file where one is named."""
    print(f"{keras.backend.backend()}: {title}")
    print("\n".join(tables.markdown(header, rows)))
    if output:
        run.write_text(output, json.dumps({"backend": keras.backend.backend(), "rows": found}))
