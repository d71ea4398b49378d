"""Rules of layers that treat each channel alone."""

from dataclasses import replace

import keras
import numpy as np
from keras import layers

from adprune_keras.graph.kinds import channel_axis, is_relu
from adprune_keras.graph.walk import SOMEWHERE_ELSE, called

_ZERO_TO_ZERO = {  # functions of one channel alone, by their value at zero
    *("celu", "elu", "gelu", "hard_shrink", "hard_silu", "hard_tanh", "leaky_relu", "linear", "mish"),
    *("relu", "relu6", "selu", "silu", "soft_shrink", "softsign", "sparse_plus", "tanh"),
    "tanh_shrink",
}
_ZERO_TO_OTHER = {"exponential", "hard_sigmoid", "log_sigmoid", "sigmoid", "softplus"}
_ZERO_TO_OTHER |= {"sparse_sigmoid", "squareplus"}


def depthwise(walk, call, c):
    """DepthwiseConv, and convolutions with a group for each channel."""
    op, axis = call.op, channel_axis(call.op, call.inputs[0])
    if not c.known:
        return walk.opaque(call)
    if c.axis != axis:
        return walk.stop(call, SOMEWHERE_ELSE)
    times = call.outputs[0].shape[axis] // call.inputs[0].shape[axis]
    ids, silent = c.ids.repeat(times), c.silent.repeat(times)
    if isinstance(op, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        walk.weigh(call, "kernel", {-2: c.ids})
    else:
        walk.weigh(call, "kernel", {-1: ids})
        walk.count(call, "filters", ids)
        walk.count(call, "groups", c.ids)
    walk.weigh(call, "bias", {0: ids})
    out = replace(c, ids=ids, silent=silent)
    return activate(walk, call, out.heard() if op.use_bias else out)


def activate(walk, call, c):
    """What the activation of a layer does to its channels."""
    function = getattr(call.op, "activation", None) or keras.activations.linear
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is not function:
        name = ""  # somebody's own function, whatever its name
    if is_relu(call.op):
        return replace(c, silent=np.ones(len(c.ids), bool))
    if name in _ZERO_TO_ZERO:
        return c
    if name not in _ZERO_TO_OTHER:
        walk.fix(c.ids, f"the activation of {called(call)} may mix its channels")
    return c.heard()


def pass_on(walk, call, c):
    """Layers that change nothing in inference."""
    return c


def relu_like(walk, call, c):
    """ReLU and its relatives without weights."""
    if is_relu(call.op):
        return replace(c, silent=np.ones(len(c.ids), bool))
    return c.heard() if getattr(call.op, "threshold", 0) else c


def not_at_zero(walk, call, c):
    """Operations that turn zeros into other values."""
    return c.heard()


def spatial(walk, call, c):
    """Pooling, padding, cropping, upsampling: they leave the channels where they are."""
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c


def global_pooling(walk, call, c):
    """Global pooling: the channels become features."""
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c if call.op.keepdims else replace(c, axis=1)


def reduce(walk, call, c):
    """`keras.ops.mean` and `max` over other axes than the channels'."""
    rank = len(call.inputs[0].shape)
    axes = range(rank) if call.op.axis is None else [a % rank for a in call.op.axis]
    if c.axis in axes or 0 in axes:
        return walk.stop(call, "reduces the channels' axis")
    gone = 0 if call.op.keepdims else sum(a < c.axis for a in axes)
    return replace(c, axis=c.axis - gone)


def batch_norm(walk, call, c):
    """BatchNormalization: a scale and a shift for each channel."""
    if channel_axis(call.op, call.inputs[0]) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        walk.weigh(call, weight, {0: c.ids})
    return c.heard()


def layer_norm(walk, call, c):
    """LayerNormalization and RMSNormalization: each channel feels the others."""
    rank = len(call.inputs[0].shape)
    axes = call.op.axis if isinstance(call.op.axis, (list, tuple)) else [call.op.axis]
    axes = [a % rank for a in axes]
    if c.axis in axes:
        walk.feel(call, c.ids, np.zeros(len(c.ids), bool))
        for weight in ("gamma", "beta", "scale"):
            walk.weigh(call, weight, {axes.index(c.axis): c.ids})
    return c.heard()


def group_norm(walk, call, c):
    """GroupNormalization: each channel feels those of its group."""
    op = call.op
    if op.axis % len(call.inputs[0].shape) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    if op.groups == len(c.ids):  # each channel alone
        walk.count(call, "groups", c.ids)
    else:
        walk.feel(call, c.ids, np.zeros(len(c.ids), bool))
        walk.parts.append((c.ids, op.groups, called(call)))
    for weight in ("gamma", "beta"):
        walk.weigh(call, weight, {0: c.ids})
    return c.heard()


def prelu(walk, call, c):
    """PReLU: a slope for each channel, unless the axis is shared."""
    if c.axis not in (call.op.shared_axes or ()):
        walk.weigh(call, "alpha", {c.axis - 1: c.ids})
    return c


def rescale(walk, call, c):
    """Rescaling by one number."""
    op = call.op
    if np.size(op.scale) > 1 or np.size(op.offset) > 1:
        return walk.stop(call, "has a number for each channel")
    return c if np.all(np.equal(op.offset, 0)) else c.heard()
