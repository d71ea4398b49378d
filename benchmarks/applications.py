"""What adprune_keras makes of the networks in `keras.applications`, as the table of docs/layers.md.

    python benchmarks/applications.py [NAME ...]

For each network (weights=None, small images): how many layers may be pruned, MACs after one prune at
AE 0.5 everywhere (deployed count), seconds to find the groups and to rebuild with inherited weights, how
far the pruned net is from the dense one with the same channels zeroed at their ReLU (of the largest
output), and whether `fit` ran through a prune. What stays, or is not exact, is named below the table.
About 15 minutes on two cores.
"""

import collections
import pathlib
import re
import sys
import time
import warnings

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
from graphs import scramble, silenced

from adprune_keras import ADPrune, WidthRule, cost
from adprune_keras.graph.cut import choose
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild
from adprune_keras.prune.widths import next_widths

SIZES = {
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "ResNet101": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "DenseNet121": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "NASNetMobile": 32,
    "EfficientNetB0": 32,
    "ConvNeXtTiny": 32,
}
CLASSES = 10


def macs(model):
    """Deployed MACs in millions, or why they cannot be counted."""
    try:
        return f"{cost(model).deployed.macs / 1e6:.1f}"
    except ValueError as e:
        return "not counted: " + re.search(r"layer '.*?\)", str(e)).group()


def examine(name):
    """Return a row of the table and the notes below it."""
    size = SIZES[name]
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )
    scramble(model, rng)
    begin = time.perf_counter()
    groups = find_groups(model)
    found = time.perf_counter() - begin
    prunable = groups.prunable()
    notes = collections.Counter()
    for group in groups.groups:
        if group.fixed:
            notes[f"stays: {unnamed(group.fixed)}"] += 1
        elif not group.relus:
            notes["stays: no ReLU follows it"] += 1
        elif group.inexact:
            notes[f"not exact when inherited: {unnamed(group.inexact)}"] += 1
    row = [name, str(len(groups.groups)), str(len(prunable)), macs(model)]
    if not prunable:
        return [*row, "-", f"{found:.1f} + -", "-", "-"], notes

    exact = [g for g in prunable if not g.inexact]
    densities = {g.owner: rng.permutation(np.linspace(0, 1, g.width)) for g in groups.groups}
    widths = next_widths(
        {g.owner: g.width for g in exact},
        dict.fromkeys(densities, 0.5),
        WidthRule(),
        {g.owner: g.parts for g in exact},
    )
    x = rng.uniform(size=(4, size, size, 3)).astype("float32")
    small = rebuild(model, groups, widths, "inherit", densities).model
    expected = np.array(silenced(model, groups, choose(groups, widths, densities))(x, training=False))
    difference = np.abs(np.array(small(x, training=False)) - expected).max() / np.abs(expected).max()

    everything = next_widths(
        {g.owner: g.width for g in prunable},
        dict.fromkeys(densities, 0.5),
        WidthRule(),
        {g.owner: g.parts for g in prunable},
    )
    begin = time.perf_counter()
    pruned = rebuild(model, groups, everything, "inherit", densities).model
    rebuilt = time.perf_counter() - begin

    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    prune = ADPrune(schedule=[1], weights="inherit", verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            rng.uniform(size=(16, size, size, 3)),
            rng.integers(0, CLASSES, 16),
            batch_size=8,
            epochs=2,
            callbacks=[prune],
            verbose=0,
        )
    outcome = " -> ".join(f"net{e['net']}" for e in prune.record)
    return [*row, macs(pruned), f"{found:.1f} + {rebuilt:.1f}", f"{difference:.0e}", outcome], notes


def unnamed(reason):
    """The reason with the layer's kind, not its name."""
    return re.sub(r"layer '.*?' \((\w+)\)", r"\1", reason)


def main():
    """Print the table row by row, then the notes."""
    head = ["network", "groups", "prunable", "MACs, M", "pruned, M", "seconds", "difference", "fit"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    notes = {}
    for name in sys.argv[1:] or SIZES:
        row, notes[name] = examine(name)
        print("| " + " | ".join(row) + " |", flush=True)
    print()
    for name, reasons in notes.items():
        for reason, count in reasons.items():
            if reason != "stays: it is an output of the model":
                print(f"- {name}: {count} x {reason}", flush=True)


if __name__ == "__main__":
    main()
