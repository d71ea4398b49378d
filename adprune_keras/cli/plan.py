"""`adprune-plan`: what a prune would make of a network, layer by layer; nothing is trained.

Nothing is written either, unless --output says where.
"""

import math
import os
import pathlib
import sys

from absl import app, flags

from adprune_keras.cli import command, options
from adprune_keras.data.settings import Source
from adprune_keras.files import limits
from adprune_keras.files.atomic import atomic
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.settings import from_values, ints
from adprune_keras.train.settings import Network

FLAGS = flags.FLAGS
_ASSUMED = 0.5  # where batch normalisation starts AE
_SIDE, _CLASSES = 8192, 1 << 20  # at the most


def define_flags():
    """Define the flags of `adprune-plan`; return them as `{title: list}`."""
    return {
        "Network (--model or --network)": [
            flags.DEFINE_string("model", None, "A .keras file: any Functional or Sequential CNN."),
            *options.define(Network, defaults={"network": None}),
            flags.DEFINE_list(
                "input_shape",
                None,
                "With --network: height,width,channels. Default: the data set's, or 32,32,3, CIFAR's.",
            ),
            flags.DEFINE_integer(
                "classes",
                None,
                "With --network: classes. Default: the data set's, or 10, CIFAR-10's.",
                1,
                _CLASSES,
            ),
        ],
        "Densities": [
            *options.define(Source, defaults={"dataset": None}),
            flags.DEFINE_integer(
                "examples",
                1000,
                "Measure AE on the first so many training images, scaled as in adprune-train. 1000 "
                "take seconds.",
                1,
            ),
            flags.DEFINE_integer("batch_size", 128, "Images at a time; as in training.", 1),
            flags.DEFINE_float(
                "density",
                None,
                "Without --dataset: the AE to assume for every layer. Default: 0.5, where batch "
                "normalisation starts it.",
                0.0,
                1.0,
            ),
        ],
        "What to prune": options.define(Pruning, WidthRule, leave_out=("sample_places",)),
        "Output": [
            flags.DEFINE_string(
                "output",
                None,
                "Write the resized network to this .keras file: with --weights=inherit the densest "
                "channels keep their weights (without data a random choice), else all is drawn anew. "
                "Train it on. Default: nothing is written.",
            ),
            flags.DEFINE_bool("overwrite", False, "Replace the file that --output names."),
            flags.DEFINE_integer(
                "seed",
                0,
                "Seed of new weights and random choices; fixed, so that plans repeat.",
                0,
                2**32 - 1,
            ),
        ],
    }


def _check_network():
    """Refuse what follows from flags alone."""
    if bool(FLAGS.model) == bool(FLAGS.network):
        raise app.UsageError("Give either --model or --network.")
    if FLAGS.dataset and FLAGS.density is not None:
        raise app.UsageError("--density is assumed where there is no --dataset. Received: both.")
    if FLAGS.model and (FLAGS.input_shape or FLAGS.classes or FLAGS.widths or FLAGS.width_scale != 1):
        raise app.UsageError("--input_shape, --classes, --widths and --width_scale go with --network.")
    from_values(Network, options.values(FLAGS, Network))
    if FLAGS.density is not None and not math.isfinite(FLAGS.density):
        raise ValueError(f"--density must be a number from 0 to 1. Received: {FLAGS.density}")


def _model():
    """The network that the flags describe, the data or `None`, and where both come from in words."""
    from adprune_keras import data
    from adprune_keras.record.directory import load_model

    images = None
    if FLAGS.dataset:
        images = data.load(
            FLAGS.dataset,
            batch_size=FLAGS.batch_size,
            augment="none",
            image_size=FLAGS.image_size,
            train_examples=FLAGS.examples,
            data_dir=FLAGS.data_dir,
            download=FLAGS.download,
            seed=FLAGS.seed,
        )
    if FLAGS.model:
        if images:
            print(images.scaling())
        return load_model(FLAGS.model), images, FLAGS.model
    return _built(images), images, "new weights"


def _built(images):
    from adprune_keras.train import recipe

    shape = ints("input_shape", FLAGS.input_shape or ["32", "32", "3"])
    if max(shape, default=0) > _SIDE:
        raise ValueError(f"--input_shape takes at most {_SIDE} pixels a side. Received: {shape}")
    classes = FLAGS.classes or 10
    if images is not None:
        shape = images.input_shape if FLAGS.input_shape is None else tuple(shape)
        classes = images.classes if FLAGS.classes is None else FLAGS.classes
    network = from_values(Network, options.values(FLAGS, Network))
    width = network.resolved()[-1]
    limits.check_size(f"a classifier of {classes} classes", 4 * classes * width, limits.memory() // 2)
    return recipe.build(network, tuple(shape), classes)


def _densities(model, groups, images):
    """The densities to plan by, and where they come from in words."""
    from adprune_keras.density.from_data import densities_of
    from adprune_keras.prune.planning import assumed_densities

    if images is None:
        density = _ASSUMED if FLAGS.density is None else FLAGS.density
        found = assumed_densities(groups, density, FLAGS.seed)
        return found, f"ASSUMED, {density:g} for every layer: no data was seen (--dataset measures)"
    wanted = [tuple(x.shape[1:]) for x in model.inputs]
    fits = len(wanted) == 1 and all(
        a in (None, b) for a, b in zip(wanted[0], images.input_shape, strict=False)
    )
    if not fits or len(wanted[0]) != len(images.input_shape):
        raise ValueError(
            f"The images do not fit the network. Received: images of shape {images.input_shape}, inputs "
            f"{wanted}. --image_size resizes them."
        )
    found = densities_of(model, groups, images.train)
    trained = "" if FLAGS.model else "; the network has not trained, so they say little"
    return found, f"measured on {images.train_examples:,} training images of {FLAGS.dataset}{trained}"


def _check_output():
    path = pathlib.Path(FLAGS.output)
    if path.suffix != ".keras" or not path.parent.is_dir():
        raise ValueError(f"--output must be a .keras file in a directory that exists. Received: {path}")
    if path.exists() and not (FLAGS.overwrite and path.is_file()):
        raise ValueError(f"There is such a file already; --overwrite replaces it. Received: {path}")
    return path


def act():
    """Print the plan that the flags describe; write what --output names."""
    output = None if FLAGS.output is None else _check_output()
    _check_network()
    pruning = from_values(Pruning, options.values(FLAGS, Pruning))
    rule = from_values(WidthRule, options.values(FLAGS, WidthRule))
    from_values(Source, options.values(FLAGS, Source))
    command.load_libraries()
    from adprune_keras.cli import show
    from adprune_keras.graph.groups import find_groups
    from adprune_keras.graph.rebuild import rebuild
    from adprune_keras.prune.callback import ADPrune
    from adprune_keras.prune.planning import plan

    model, images, origin = _model()
    groups = find_groups(model, pruning.shortcuts)
    densities, source = _densities(model, groups, images)
    found = plan(model, ADPrune(**vars(pruning), rule=rule), densities, groups)
    text = show.plan(found, f"{model.name} ({origin})", source, pruning.weights)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
    if output is not None:
        new = rebuild(model, groups, found.widths, pruning.weights, densities, FLAGS.seed).model
        with atomic(output) as temporary:
            new.save(temporary)
        print(f"\nWrote {os.fspath(output)}: {show.WEIGHTS[pruning.weights]}. Train it on.")


def main():
    """Entry point of `adprune-plan`."""
    command.run("adprune-plan", act, define_flags())


if __name__ == "__main__":
    main()
