"""Small models whose answers can be worked out on paper."""

import contextlib
import functools
import struct
import zlib

import keras
import numpy as np
from absl import flags
from keras import layers


@contextlib.contextmanager
def flags_of(command):
    """The flags of a command, for a while: two commands have some of the same name."""
    before = set(flags.FLAGS)
    try:
        yield command.define_flags()
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def two_channels():
    """x -> relu([x, -x]) -> flatten -> dense: densities follow from the signs of x alone."""
    inputs = keras.Input((2, 2, 1), name="image")
    conv = layers.Conv2D(2, 1, use_bias=False, name="conv", kernel_initializer=_constant([1.0, -1.0]))
    x = layers.ReLU(name="relu")(conv(inputs))
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(x), name="two")


def plain_cnn(width=8, classes=4, softmax=True):
    """Conv-BN-ReLU, conv with fused ReLU, global pooling, hidden Dense, output Dense."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn1", momentum=0.5)(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(width, 3, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(2 * width, activation="relu", name="hidden")(x)
    x = layers.Dense(classes, activation="softmax" if softmax else None, name="out")(x)
    return keras.Model(inputs, x, name="plain_cnn")


def sequential_cnn(width=8, classes=4):
    """The same kind of network as a Sequential, with Flatten in the middle."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(width, 3, strides=2, use_bias=False, name="conv1"),
            layers.BatchNormalization(name="bn1", momentum=0.5),
            layers.ReLU(name="relu1"),
            layers.Flatten(name="flatten"),
            layers.Dense(classes, activation="softmax", name="out"),
        ],
        name="sequential_cnn",
    )


def images(count=40, classes=4, seed=0):
    """Images whose class is the brightest quarter: learnable in a few steps. float32, int labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8, 8, 1)).astype("float32")
    y = rng.integers(0, classes, count)
    for image, label in zip(x, y, strict=True):
        row, column = 4 * (label // 2 % 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 2
    return x, y


def mode(**kwargs):
    """Arguments of `compile`: eager, which is faster for a few steps, where nothing asks for a graph.

    XLA is off, without which Keras on JAX compiles nothing. `graph_mode` asks for a graph.
    """
    graph = keras.backend.backend() == "jax" or {"jit_compile", "steps_per_execution"} & kwargs.keys()
    return {"jit_compile": False, "run_eagerly": not graph} | kwargs


def graph_mode():
    """Arguments of `compile` with which a backend that has graphs trains in one."""
    return {"run_eagerly": False, "jit_compile": keras.backend.backend() == "jax"}


def eager_compile():
    """What `setattr` takes to add eager mode to every `compile`, for runs whose own call it is."""
    # Where Keras defines it: it asks a model's class whether that has one of its own.
    owner = next(kind for kind in keras.Model.__mro__ if "compile" in vars(kind))
    compile_ = owner.compile

    @functools.wraps(compile_)
    def eagerly(*args, **kwargs):
        return compile_(*args, **kwargs | mode())

    return owner, "compile", eagerly


def compiled(model, learning_rate=0.05, **kwargs):
    """Compile as the README does, in the mode for tests."""
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **mode(**kwargs),
    )
    return model


def png(width, height):
    """A PNG of the given size, as small as its header allows."""

    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def header(**flags):
    """The first line of a record, with flags as given."""
    flags = {"network": "VGG19", "dataset": "x.npz"} | flags
    return {"kind": "run", "schema": 1, "flags": flags, "data": {"classes": 10, "train_examples": 5}}


def net_entry(net=0, start=0, epochs=2, outcome="final", **fields):
    """A net as a record holds it; accuracy 0.1, 0.2, ... and AE 0.5, 0.45, ... over its epochs."""
    both = {"paper": 1.0 + net, "deployed": 1.0 + net}
    return {
        **{"kind": "net", "net": net, "start": start, "epochs": epochs, "widths": {"a": 8, "b": 4}},
        **{"ops_reduction": both, "params_reduction": both, "profile": "convex", "reason": ""},
        "logs": {
            "val_accuracy": [0.1 * (1 + i) for i in range(epochs)],
            "activation_density": [0.5 - 0.05 * i for i in range(epochs)],
        },
        "densities": {"a": [0.5] * epochs, "b": [0.1] * epochs},
        "outcome": outcome,
    } | fields


def _constant(values):
    return keras.initializers.Constant(np.array(values, "float32").reshape(1, 1, 1, -1))
