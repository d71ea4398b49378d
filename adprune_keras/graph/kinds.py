"""Tell what a layer is, by its type alone."""

import keras
from keras import layers


def is_relu(op):
    """True where the output of `op` is that of a ReLU: zero for everything that is not positive.

    A ReLU may be a layer, the `activation` of any layer, or a raw `keras.ops.relu`.
    """
    if isinstance(op, layers.ReLU):
        return op.negative_slope == 0 and op.threshold >= 0
    if not isinstance(op, layers.Layer):
        return type(op).__name__ in ("Relu", "Relu6")
    return getattr(op, "activation", None) in (keras.activations.relu, keras.activations.relu6)


def channel_axis(op, tensor):
    """Return the axis of a tensor along which a layer has its channels."""
    if isinstance(op, layers.BatchNormalization):
        return op.axis % len(tensor.shape)
    first = getattr(op, "data_format", "channels_last") == "channels_first"
    return 1 if first else len(tensor.shape) - 1
