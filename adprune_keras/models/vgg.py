"""VGG with batch normalisation, as the paper trains it on CIFAR: conv-BN-ReLU, one Dense on top."""

import keras
from keras import layers

from adprune_keras.graph.rebuild import BATCH_NORM
from adprune_keras.models.plans import VGG_STAGES, check_input, resolve_widths, vgg_plan


def build(network, input_shape, classes, widths, classifier_activation):
    """Build the Functional model of `network`; the public factories document the arguments."""
    height, width, _ = shape = check_input(input_shape, classes)
    defaults = vgg_plan(network)
    widths = resolve_widths(defaults, defaults.values(), widths, network)
    inputs = x = keras.Input(shape, name="image")
    for stage, depth in enumerate(VGG_STAGES[network], start=1):
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
