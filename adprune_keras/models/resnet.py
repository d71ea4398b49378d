"""ResNet v1 as the paper trains it: a width for every convolution, a projection where ends differ."""

import keras
from keras import layers

from adprune_keras.graph.rebuild import BATCH_NORM
from adprune_keras.models.plans import (
    RESNET_BLOCKS,
    RESNET_STAGES,
    check_input,
    resnet_plan,
    resolve_widths,
)

_LARGE_IMAGE = 128


def build(network, input_shape, classes, widths, classifier_activation):
    """Build the Functional model of `network`; the public factories document the arguments."""
    height, width, _ = shape = check_input(input_shape, classes)
    defaults = resnet_plan(network)
    widths = resolve_widths(defaults, defaults.values(), widths, network)
    inputs = x = keras.Input(shape, name="image")
    large = min(height, width) >= _LARGE_IMAGE
    x = _conv_bn(x, widths["stem_conv"], 7 if large else 3, 2 if large else 1, "stem", "")
    x = layers.ReLU(name="stem_relu")(x)
    if large:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    kernels = (3, 3) if len(RESNET_BLOCKS[network]) == 2 else (1, 3, 1)
    for stage, blocks in enumerate(RESNET_STAGES[network], start=1):
        for block in range(1, blocks + 1):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            x = _residual_block(x, widths, kernels, stride, name)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(classes, name="logits")(x)
    if classifier_activation is not None:
        x = layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)
    return keras.Model(inputs, x, name=network.lower())


def _residual_block(x, widths, kernels, stride, name):
    """`len(kernels)` convolutions and the shortcut around them; the 3x3 that comes first strides."""
    shortcut, strided = x, kernels.index(3)
    for i, kernel in enumerate(kernels, start=1):
        block_stride = stride if i - 1 == strided else 1
        x = _conv_bn(x, widths[f"{name}_conv{i}"], kernel, block_stride, name, i)
        if i < len(kernels):
            x = layers.ReLU(name=f"{name}_relu{i}")(x)
    if stride != 1 or shortcut.shape[-1] != x.shape[-1]:
        shortcut = _conv_bn(shortcut, x.shape[-1], 1, stride, f"{name}_shortcut", "")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def _conv_bn(x, width, kernel, stride, name, index):
    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv{index}",
    )(x)
    return layers.BatchNormalization(**BATCH_NORM, name=f"{name}_bn{index}")(x)
