"""ResNet v1 as the paper trains it: a width for every convolution, a projection where ends differ."""

import keras
from keras import layers

from adprune_keras.graph.rebuild import BATCH_NORM
from adprune_keras.models.plans import check_input, resolve_widths

# Blocks in each of the four stages, and the width of each convolution of a block as a multiple of
# the stage's width: two 3x3 (basic block) or 1x1, 3x3, 1x1 (bottleneck).
_STAGES = {"ResNet18": (2, 2, 2, 2), "ResNet34": (3, 4, 6, 3), "ResNet50": (3, 4, 6, 3)}
_BLOCKS = {"ResNet18": (1, 1), "ResNet34": (1, 1), "ResNet50": (1, 1, 4)}
_WIDTHS = (64, 128, 256, 512)
_LARGE_IMAGE = 128


def plan(network):
    """Return `{layer name: default width}` of a ResNet, in the order of the paper's Table I."""
    widths = {"stem_conv": _WIDTHS[0]}
    for stage, (blocks, width) in enumerate(zip(_STAGES[network], _WIDTHS, strict=True), start=1):
        for block in range(1, blocks + 1):
            for i, multiple in enumerate(_BLOCKS[network], start=1):
                widths[f"stage{stage}_block{block}_conv{i}"] = width * multiple
    return widths


def build(network, input_shape, classes, widths, classifier_activation):
    """Build the Functional model of `network`; the public factories document the arguments."""
    height, width, _ = shape = check_input(input_shape, classes)
    defaults = plan(network)
    widths = resolve_widths(defaults, defaults.values(), widths, network)
    inputs = x = keras.Input(shape, name="image")
    large = min(height, width) >= _LARGE_IMAGE
    x = _conv_bn(x, widths["stem_conv"], 7 if large else 3, 2 if large else 1, "stem", "")
    x = layers.ReLU(name="stem_relu")(x)
    if large:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    kernels = (3, 3) if len(_BLOCKS[network]) == 2 else (1, 3, 1)
    for stage, blocks in enumerate(_STAGES[network], start=1):
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
