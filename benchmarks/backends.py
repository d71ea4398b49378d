"""Seconds of an epoch on each backend, beside plain PyTorch, and where the time goes.

    python benchmarks/backends.py --data=cifar10.npz [--output=backends.json]

Each way trains the same network (quarter width, batch 128, SGD with momentum) in a process of its own,
the ways in turn, --rounds times; the medians are printed. "epoch" is a `fit` over --train_examples
images with crop and flip, without validation; "steps" is as many training steps on one batch that lies
in memory, so the difference is the input pipeline and Keras' loop. Ways that need a backend which is not
installed are left out.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

from adprune_keras import data, models
from adprune_keras.files.atomic import write_text
from adprune_keras.report.table import markdown_table

FLAGS = flags.FLAGS
NETWORKS = ["VGG19", "ResNet18"]  # those that are written in plain PyTorch below
WAYS = {  # environment of each way
    "tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "tensorflow, XLA": {"KERAS_BACKEND": "tensorflow"},
    "tensorflow, oneDNN off": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "tensorflow, one thread": {"KERAS_BACKEND": "tensorflow", "TF_NUM_INTRAOP_THREADS": "1"},
    "tensorflow, bfloat16": {"KERAS_BACKEND": "tensorflow"},
    "jax": {"KERAS_BACKEND": "jax"},
    "torch": {"KERAS_BACKEND": "torch"},
    "plain PyTorch": {"KERAS_BACKEND": "torch"},
    "plain PyTorch, channels last": {"KERAS_BACKEND": "torch"},
}


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", NETWORKS, NETWORKS, "Networks.")
    flags.DEFINE_multi_enum("way", list(WAYS), list(WAYS), "Ways to train.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("train_examples", 10000, "Images of an epoch.")
    flags.DEFINE_integer("rounds", 3, "Processes of each way.")
    flags.DEFINE_integer("steps", 15, "Timed steps of a process.")
    flags.DEFINE_enum("child", None, list(WAYS), "Train in this way, here, and print its seconds.")


def keras_seconds(way, network):
    """Return seconds of a step, and of an epoch of `fit`."""
    import keras
    import setting

    if way.endswith("bfloat16"):
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    dataset = data.load(FLAGS.data, batch_size=128, train_examples=FLAGS.train_examples, test_examples=1)
    model = setting.network(network, dataset.classes, FLAGS.width_scale)
    if way.endswith("XLA"):
        model.compile(model.optimizer, model.loss, jit_compile=True)
    x, y = (np.asarray(part) for part in next(iter(dataset.train)))
    step = median_step(lambda: model.train_on_batch(x, y))
    model.fit(dataset.train.take(2), shuffle=False, verbose=0)  # traces, and fills no cache
    model.fit(dataset.train, shuffle=False, verbose=0)  # fills the cache
    begin = time.perf_counter()
    model.fit(dataset.train, shuffle=False, verbose=0)
    return step, time.perf_counter() - begin


def torch_seconds(way, network):
    """Return seconds of a step of plain PyTorch; it has no pipeline here."""
    import torch

    widths = [max(1, round(w * FLAGS.width_scale)) for w in models.default_widths(network).values()]
    model = vgg(widths) if network.startswith("VGG") else resnet(widths)
    x, y = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
    if way.endswith("channels last"):
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return median_step(step), None


def vgg(widths):
    """Return a plain PyTorch VGG-19 of 32-pixel images, poolings as in ours."""
    from torch import nn

    pools, layers, before = (2, 4, 8, 12, 16), [], 3
    for i, width in enumerate(widths, 1):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i in pools else []
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def resnet(widths):
    """Return a plain PyTorch ResNet-18 of 32-pixel images, with the shortcuts of ours."""
    from torch import nn

    def conv(inputs, outputs, kernel, stride):
        padding = kernel // 2
        layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs, middle, outputs, stride):
            super().__init__()
            same = stride == 1 and inputs == outputs
            self.first = nn.Sequential(conv(inputs, middle, 3, stride), nn.ReLU())
            self.second = conv(middle, outputs, 3, 1)
            self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

        def forward(self, x):
            return nn.functional.relu(self.second(self.first(x)) + self.shortcut(x))

    stem, *rest = widths
    layers, before = [conv(3, stem, 3, 1), nn.ReLU()], stem
    for i in range(0, len(rest), 2):
        layers.append(Block(before, rest[i], rest[i + 1], 2 if i in (4, 8, 12) else 1))
        before = rest[i + 1]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def median_step(step):
    """Return the median seconds of a step, after three to trace and warm up."""
    spent = []
    for _ in range(FLAGS.steps + 3):
        begin = time.perf_counter()
        step()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent[3:])


def child(way):
    """Print the seconds of one way as JSON."""
    seconds = torch_seconds if way.startswith("plain") else keras_seconds
    print(json.dumps({network: seconds(way, network) for network in FLAGS.network}), flush=True)


def main(argv):
    """Print the table."""
    if FLAGS.child:
        return child(FLAGS.child)
    ways = [w for w in FLAGS.way if importlib.util.find_spec(WAYS[w]["KERAS_BACKEND"])]
    found = {way: [] for way in ways}
    for _ in range(FLAGS.rounds):
        for way in ways:
            command = [sys.executable, *argv, *sys.argv[1:], f"--child={way}"]
            done = subprocess.run(
                command, env=os.environ | WAYS[way], stdout=subprocess.PIPE, text=True, check=True
            )
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    rows, steps = [], FLAGS.train_examples / 128
    for network in FLAGS.network:
        for way in ways:
            step = statistics.median(f[network][0] for f in found[way]) * steps
            epochs = [f[network][1] for f in found[way]]
            epoch = "" if None in epochs else f"{statistics.median(epochs):.1f} s"
            rows.append((network, way, f"{step:.1f} s", epoch))
    print("\n".join(markdown_table(("network", "way", "steps", "epoch"), rows)))
    if FLAGS.output:
        write_text(FLAGS.output, json.dumps(found))


if __name__ == "__main__":
    define_flags()
    app.run(main)
