"""Where the time of a training step goes, at several widths: by leaving parts of it out.

    python benchmarks/breakdown.py --data=cifar10.npz [--width_scale=1 --width_scale=0.55]

At each width the whole step and steps that lack something are timed in turn, on one batch in memory;
what a part takes is the median of the differences. "whole / first" is the step against that of the
first width, beside the ratio of their MACs. "fused" is TensorFlow's fused batch normalisation in the
place of Keras' own. "input" is the pipeline of `adprune-train` (crop and flip) drained without
training, seconds a batch.
"""

import random
import statistics
import time

import keras
import numpy as np
import setting
from absl import app, flags

from adprune_keras import cost, data, models

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["VGG19", "ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_multi_float("width_scale", [0.25, 0.1375], "Widths against the network's own.")
    flags.DEFINE_integer("round_to", 1, "Widths are multiples of this, but for the first scale's.")
    flags.DEFINE_integer("steps", 15, "Timed steps of each kind.")


@keras.saving.register_keras_serializable("benchmarks")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, statistics not kept: for its time alone."""

    def call(self, inputs, training=None, mask=None):
        import tensorflow as tf

        if not training:
            return super().call(inputs, training=training)
        normal, _, _ = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        return normal


@keras.saving.register_keras_serializable("benchmarks")
class Nothing(keras.layers.Layer):
    """Hands its input on, called as any layer may be."""

    def call(self, inputs, training=None, mask=None):
        return inputs


def without(*kinds):
    """Return a function that clones a layer, and leaves out those of some kinds."""

    def clone(layer):
        if isinstance(layer, kinds):
            return Nothing(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    return clone


def fused(layer):
    """Clone a layer, with fused batch normalisation."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return FusedBatchNormalization.from_config(layer.get_config())
    return layer.__class__.from_config(layer.get_config())


LAYERS = keras.layers
VARIANTS = {
    "whole": without(),
    "batch normalisation": without(LAYERS.BatchNormalization),
    "ReLU": without(LAYERS.ReLU),
    "fused": fused,
}


def scaled(network, scale, round_to):
    """Return widths at a scale, as multiples of `round_to`."""
    widths = models.default_widths(network)
    return {n: max(1, round(w * scale / round_to)) * round_to for n, w in widths.items()}


def measure(network, widths, x, y):
    """Return `{what: median seconds of a step}` of each variant, and of the whole net forwards."""
    nets, classes = {}, int(y.max()) + 1
    plain = models.NETWORKS[network](input_shape=x.shape[1:], classes=classes, widths=widths)
    for name, clone in VARIANTS.items():
        if name == "fused" and keras.backend.backend() != "tensorflow":
            continue
        nets[name] = keras.models.clone_model(plain, clone_function=clone)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        nets[name].compile(
            optimizer, "sparse_categorical_crossentropy", jit_compile=setting.jit_compile()
        )
    steps = {name: lambda net=net: net.train_on_batch(x, y) for name, net in nets.items()}
    steps["backward"] = lambda: nets["whole"].test_on_batch(x, y)
    spent = {name: [] for name in steps}
    for step in range(-2, FLAGS.steps):  # two to trace and warm up
        for name in random.sample(list(steps), len(steps)):
            begin = time.perf_counter()
            steps[name]()
            if step >= 0:
                spent[name].append(time.perf_counter() - begin)
    whole = spent["whole"]
    parts = {
        name: statistics.median(w - s for w, s in zip(whole, spent[name], strict=True)) for name in spent
    }
    return parts | {"whole": statistics.median(whole), "macs": cost(plain).deployed.macs}


def main(_):
    """Print the table."""
    dataset = data.load(FLAGS.data, batch_size=128, train_examples=10000, test_examples=1, seed=0)
    batches = [tuple(np.asarray(part) for part in batch) for batch in dataset.train.take(1)]
    list(dataset.train)  # fills the cache
    begin = time.perf_counter()
    steps = sum(1 for _ in dataset.train)
    feed = (time.perf_counter() - begin) / steps
    rows, found = [], []
    for network in FLAGS.network:
        first = None
        for scale in FLAGS.width_scale:
            widths = scaled(network, scale, FLAGS.round_to if first else 1)
            parts = measure(network, widths, *batches[0])
            first = first or parts
            ratios = (parts[key] / first[key] for key in ("whole", "macs"))
            saved = f"{1000 * parts['fused']:.0f} ms" if "fused" in parts else "n/a"
            rows.append(
                (
                    *(network, f"{scale:g}", f"{1000 * parts['whole']:.0f} ms"),
                    " / ".join(f"{ratio:.2f}" for ratio in ratios),
                    *(f"{1000 * parts[k]:.0f} ms" for k in ("backward", "batch normalisation", "ReLU")),
                    saved,
                )
            )
            found.append({"network": network, "width_scale": scale, "parts": parts, "input": feed})
            print(*rows[-1], flush=True)
    header = ("network", "width", "whole step", "whole / first: time / MACs", "backward and optimizer")
    header += ("batch normalisation", "ReLU", "fused batch normalisation would save")
    setting.report(
        f"parts of a step; input {1000 * feed:.1f} ms a batch", header, rows, found, FLAGS.output
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)
