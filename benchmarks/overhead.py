"""What measuring density costs a training step, and how far a sample is from counting every image.

    KERAS_BACKEND=tensorflow python benchmarks/overhead.py --data=cifar10.npz [--output=overhead.json]

For each network (quarter width) one net for each way of measuring, and one plain net, train on the
same batches in turn, step by step in one process; printed is the median over the steps of the time of a
step with density over that of the plain net's step just before or after. Errors are of the AE of each
layer, over one epoch of training batches, against counting every image.
"""

import random
import statistics
import time

import keras
import numpy as np
import setting
from absl import app, flags

from adprune_keras import data, models
from adprune_keras.density import density_model, merge
from adprune_keras.swap import Meter

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["VGG19", "ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_multi_integer("every", [1, 2, 4, 8], "Ways: one image in so many is counted.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("batch_size", 128, "Images a step.")
    flags.DEFINE_integer("steps", 20, "Timed steps of each net.")
    flags.DEFINE_integer("train_examples", 10000, "Images of the epoch that errors are measured in.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "mixed_bfloat16"], "Keras' dtype policy.")


def overhead(network, dataset):
    """Return `{every: ratio of step times}`, and the plain net, which has trained meanwhile."""
    nets = {
        every: setting.network(network, dataset.classes, FLAGS.width_scale)
        for every in [0, *FLAGS.every]
    }
    for every, model in nets.items():
        if every:
            Meter(model, every=every).attach()
    batches = [(x.numpy(), y.numpy()) for x, y in dataset.train.take(8)]
    ratios = {every: [] for every in FLAGS.every}
    for step in range(-2, FLAGS.steps):  # two to trace and warm up
        x, y = batches[step % len(batches)]
        spent, order = {}, list(nets)
        random.shuffle(order)
        for every in order:
            begin = time.perf_counter()
            nets[every].train_on_batch(x, y)
            spent[every] = time.perf_counter() - begin
        if step >= 0:
            for every in FLAGS.every:
                ratios[every].append(spent[every] / spent[0])
    return {every: statistics.median(r) for every, r in ratios.items()}, nets[0]


def errors(model, dataset):
    """Return `{every: (largest error of a layer's AE, error of total AE)}`."""
    counts = {every: density_model(model, every=every) for every in {1, *FLAGS.every}}
    sums = dict.fromkeys(counts, 0.0)
    for x, _ in dataset.train:
        for every, (aux, _) in counts.items():
            step = aux.predict_on_batch(x.numpy())["positives"]
            sums[every] = sums[every] + np.concatenate(step).astype(np.float64)
    density = {every: merge(parts, sums[every]) for every, (_, parts) in counts.items()}
    exact, found = density[1], {}
    for every in FLAGS.every:
        layers = density[every].layers
        worst = max(abs(layers[name] - exact.layers[name]) for name in layers)
        found[every] = worst, abs(density[every].total - exact.total)
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
        wrong = errors(model, dataset)
        for every, ratio in ratios.items():
            rows.append((network, every, f"{ratio:.3f}", *(f"{e:.5f}" for e in wrong[every])))
            found.append({"network": network, "every": every, "ratio": ratio, "errors": wrong[every]})
    header = ("network", "one image in", "step time, ratio", "worst layer's error", "total AE's error")
    title = f"density in a training step, batch {FLAGS.batch_size}, {FLAGS.dtype}"
    setting.report(title, header, rows, found, FLAGS.output)


if __name__ == "__main__":
    define_flags()
    app.run(main)
