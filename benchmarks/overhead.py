"""What measuring density costs a training step, and how far a sample is from counting every place.

    KERAS_BACKEND=tensorflow python benchmarks/overhead.py --data=cifar10.npz [--output=overhead.json]

For each network (quarter width) one net for each way of measuring, and one plain net, train on the
same batches in turn, step by step in one process; printed is the median over the steps of the time of
a step with density over that of the plain net's step just before or after, and, to show the noise, the
same of a second plain net. Errors are of the AE of each layer, over one epoch of training batches,
against counting every place of every map.
"""

import random
import statistics
import time

import keras
import numpy as np
import setting
from absl import app, flags

from adprune_keras import data, models
from adprune_keras.density.auxiliary import density_model
from adprune_keras.density.numbers import merge
from adprune_keras.live.meter import Meter

FLAGS = flags.FLAGS
PLAIN, AGAIN = "plain", "none"


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["VGG19", "ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_multi_integer(
        "places", [0, 64, 16, 4], "Ways: places of a map that are counted; 0: all."
    )
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("batch_size", 128, "Images a step.")
    flags.DEFINE_integer("steps", 20, "Timed steps of each net.")
    flags.DEFINE_integer("train_examples", 10000, "Images of the epoch that errors are measured in.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "mixed_bfloat16"], "Keras' dtype policy.")


def overhead(network, dataset):
    """Return `{places: ratio of step times}`, and the plain net, which has trained meanwhile."""
    nets = {
        places: setting.network(network, dataset.classes, FLAGS.width_scale)
        for places in (PLAIN, AGAIN, *FLAGS.places)
    }
    for places in FLAGS.places:
        Meter(nets[places], places=places or None).attach()
    batches = [(x.numpy(), y.numpy()) for x, y in dataset.train.take(8)]
    ratios = {places: [] for places in nets if places != PLAIN}
    for step in range(-2, FLAGS.steps):  # two to trace and warm up
        x, y = batches[step % len(batches)]
        spent, order = {}, list(nets)
        random.shuffle(order)
        for places in order:
            begin = time.perf_counter()
            nets[places].train_on_batch(x, y)
            spent[places] = time.perf_counter() - begin
        if step >= 0:
            for places, found in ratios.items():
                found.append(spent[places] / spent[PLAIN])
    return {places: statistics.median(r) for places, r in ratios.items()}, nets[PLAIN]


def errors(model, dataset):
    """Return `{places: (largest error of a layer's AE, error of total AE)}`."""
    counts = {places: density_model(model, places=places or None) for places in {0, *FLAGS.places}}
    sums = dict.fromkeys(counts, 0.0)
    for x, _ in dataset.train:
        for places, (aux, _) in counts.items():
            step = aux.predict_on_batch(x.numpy())["positives"]
            sums[places] = sums[places] + np.concatenate(step).astype(np.float64)
    density = {places: merge(parts, sums[places]) for places, (_, parts) in counts.items()}
    exact, found = density[0], {}
    for places in FLAGS.places:
        layers = density[places].layers
        worst = max(abs(layers[name] - exact.layers[name]) for name in layers)
        found[places] = worst, abs(density[places].total - exact.total)
    return found


def main(_):
    """Print the table."""
    keras.mixed_precision.set_global_policy(FLAGS.dtype)
    dataset = data.load(
        FLAGS.data, batch_size=FLAGS.batch_size, train_examples=FLAGS.train_examples, seed=0
    )
    rows, found = [], []
    for network in FLAGS.network:
        ratios, model = overhead(network, dataset)
        wrong = {AGAIN: (0.0, 0.0)} | errors(model, dataset)
        for places, ratio in ratios.items():
            rows.append((network, places or "all", f"{ratio:.3f}", *(f"{e:.5f}" for e in wrong[places])))
            found.append({"network": network, "places": places, "ratio": ratio, "errors": wrong[places]})
    header = (
        "network",
        "places of a map",
        "step time, ratio",
        "worst layer's error",
        "total AE's error",
    )
    title = f"density in a training step, batch {FLAGS.batch_size}, {FLAGS.dtype}"
    setting.report(title, header, rows, found, FLAGS.output)


if __name__ == "__main__":
    define_flags()
    app.run(main)
