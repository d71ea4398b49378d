"""Every kind of layer that docs/layers.md names, between a convolution and what reads it."""

import pathlib
import re

import keras
import numpy as np
import pytest
from graphs import random_cut, scramble, silenced
from keras import layers

from adprune_keras import resize
from adprune_keras.graph.cut import choose
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rules.registry import KNOWN_LAYERS

WIDTH = 8
# Arguments of each layer; those with none are called with none.
ARGUMENTS = {
    "Activation": ("relu6",),
    "ActivityRegularization": (0.0,),
    "AdaptiveAveragePooling1D": (2,),
    "AdaptiveAveragePooling2D": (2,),
    "AdaptiveAveragePooling3D": (2,),
    "AdaptiveMaxPooling1D": (2,),
    "AdaptiveMaxPooling2D": (2,),
    "AdaptiveMaxPooling3D": (2,),
    "AlphaDropout": (0.5,),
    "AveragePooling1D": (2,),
    "AveragePooling2D": (2,),
    "AveragePooling3D": (2,),
    "Dense": (6,),
    "DepthwiseConv1D": (3,),
    "DepthwiseConv2D": (3,),
    "Dropout": (0.5,),
    "GaussianDropout": (0.5,),
    "GaussianNoise": (0.5,),
    "GroupNormalization": (4,),
    "Permute": ((3, 1, 2),),
    "RepeatVector": (3,),
    "Rescaling": (0.5,),
    "Reshape": ((-1, WIDTH),),
    "Resizing": (3, 3),
    "SpatialDropout1D": (0.5,),
    "SpatialDropout2D": (0.5,),
    "SpatialDropout3D": (0.5,),
} | {
    f"{kind}{rank}D{end}": (6, 3)
    for kind, rank, end in [("Conv", n, e) for n in (1, 2, 3) for e in ("", "Transpose")]
    + [("SeparableConv", n, "") for n in (1, 2)]
}
# A layer that reads a channel where it is not zero although its ReLU is: inherited weights are inexact.
INEXACT = {"BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"}
MERGES = {"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"}


def network(name):
    """conv (ReLU) -> the layer -> conv or Dense."""
    rank = int(found.group(1)) if (found := re.search(r"(\d)D", name)) else 2
    conv = getattr(layers, f"Conv{rank}D")
    inputs = keras.Input((4,) * rank + (3,))
    x = conv(WIDTH, 3, padding="same", activation="relu", name="before")(inputs)
    layer = getattr(layers, name)(*ARGUMENTS.get(name, ()), name="examined")
    if name in MERGES:
        x = layer([x, conv(WIDTH, 1, activation="relu", name="beside")(inputs)])
    elif name == "RepeatVector":
        x = layer(layers.GlobalAveragePooling2D()(x))
    elif "Depthwise" in name:
        x = layers.ReLU()(layer(x))
    else:
        x = layer(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    scramble(model, np.random.default_rng(0))
    return model, (2, *inputs.shape[1:])


@pytest.mark.parametrize("name", KNOWN_LAYERS)
def test_layer(name):
    model, shape = network(name)
    groups = find_groups(model)
    group = next(g for g in groups.groups if "before" in g.producers)
    assert group.fixed is None
    assert bool(group.inexact) == (name in INEXACT)
    rng = np.random.default_rng(1)
    widths, densities = random_cut(groups, rng)
    widths[group.owner] = WIDTH // 2
    rebuilt = resize(model, widths, weights="inherit", densities=densities)
    assert rebuilt.get_layer("before").filters == WIDTH // 2
    x = rng.normal(size=shape).astype("float32")
    found = keras.ops.convert_to_numpy(rebuilt(x, training=False))
    masked = silenced(model, groups, choose(groups, widths, densities))(x, training=False)
    expected = keras.ops.convert_to_numpy(masked)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max()) != (name in INEXACT)


def test_documentation_names_just_these_layers():
    page = (pathlib.Path(__file__).parent.parent / "docs" / "layers.md").read_text()
    table = page.split("## Layers")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(KNOWN_LAYERS)
    not_exact = [line for line in table.splitlines() if "not exact" in line]
    assert {name for line in not_exact for name in re.findall(r"`(\w+)`", line.split("|")[1])} == INEXACT


def test_channels_first_is_followed():
    """Not run (a CPU has no such convolution in TensorFlow), but found and rebuilt."""
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(8, 3, data_format="channels_first", activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(axis=1)(layers.MaxPooling2D(data_format="channels_first")(x))
    x = layers.Conv2D(6, 3, data_format="channels_first", activation="relu", name="last")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    rebuilt = resize(model, {"conv": 5, "last": 3}, weights="inherit")
    assert rebuilt.get_layer("last").kernel.shape == (3, 3, 5, 3)
    assert model.layers[-1].kernel.shape == (6, 2)
    assert rebuilt.layers[-1].kernel.shape == (3, 2)
