"""VGG with batch normalisation, as the paper trains it on CIFAR: conv-BN-ReLU, one Dense on top."""

import keras
from keras import layers

from adprune_keras.graph.rebuild import BATCH_NORM
from adprune_keras.models.plans import check_input, resolve_widths

# Convolutions in each of the five stages, and the width that a stage starts from.
_STAGES = {"VGG11": (1, 1, 2, 2, 2), "VGG13": (2, 2, 2, 2, 2)}
_STAGES |= {"VGG16": (2, 2, 3, 3, 3), "VGG19": (2, 2, 4, 4, 4)}
_STAGES |= {"VGG19First8": (2, 2, 4, 0, 0)}
_WIDTHS = (64, 128, 256, 512, 512)


def plan(network):
    """Return `{layer name: default width}` of a VGG, in the order of the paper's Table I."""
    return {
        f"block{stage}_conv{i}": width
        for stage, (depth, width) in enumerate(zip(_STAGES[network], _WIDTHS, strict=True), start=1)
        for i in range(1, depth + 1)
    }


def build(network, input_shape, classes, widths, classifier_activation):
    """Build the Functional model of `network`; the public factories document the arguments."""
    height, width, _ = shape = check_input(input_shape, classes)
    defaults = plan(network)
    widths = resolve_widths(defaults, defaults.values(), widths, network)
    inputs = x = keras.Input(shape, name="image")
    for stage, depth in enumerate(_STAGES[network], start=1):
        for i in range(1, depth + 1):
            x = layers.Conv2D(
                widths[f"block{stage}_conv{i}"],
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"block{stage}_conv{i}",
            )(x)
            x = layers.BatchNormalization(**BATCH_NORM, name=f"block{stage}_bn{i}")(x)
            x = layers.ReLU(name=f"block{stage}_relu{i}")(x)
        if depth and min(height, width) >= 2:  # an image of one pixel has nothing left to pool
            x = layers.MaxPooling2D(2, name=f"block{stage}_pool")(x)
            height, width = height // 2, width // 2
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(classes, name="logits")(x)
    if classifier_activation is not None:
        x = layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)
    return keras.Model(inputs, x, name=network.lower())
