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
    """Follow DepthwiseConv, and convolutions with a group for each channel."""
    op, axis = call.op, channel_axis(call.op, call.inputs[0])
    if not c.known:
        return walk.opaque(call)
    if c.axis != axis:
        return walk.stop(call, SOMEWHERE_ELSE)
    times = call.outputs[0].shape[axis] // call.inputs[0].shape[axis]
    ids, zero = c.ids.repeat(times), c.zero_when_removed.repeat(times)
    if isinstance(op, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        walk.bind_weight(call, "kernel", {-2: c.ids})
    else:
        walk.bind_weight(call, "kernel", {-1: ids})
        walk.bind_setting(call, "filters", ids)
        walk.bind_setting(call, "groups", c.ids)
    walk.bind_weight(call, "bias", {0: ids})
    out = replace(c, ids=ids, zero_when_removed=zero)
    return activate(walk, call, out.not_zero_when_removed() if op.use_bias else out)


def activate(walk, call, c):
    """Follow what the activation of a layer does to its channels."""
    function = getattr(call.op, "activation", None) or keras.activations.linear
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is not function:
        name = ""  # somebody's own function, whatever its name
    if is_relu(call.op):
        return replace(c, zero_when_removed=np.ones(len(c.ids), bool))
    if name in _ZERO_TO_ZERO:
        return c
    if name not in _ZERO_TO_OTHER:
        walk.fix(c.ids, f"the activation of {called(call)} may mix its channels")
    return c.not_zero_when_removed()


def pass_on(walk, call, c):
    """Follow layers that change nothing in inference."""
    return c


def relu_like(walk, call, c):
    """Follow ReLU, and activation layers like it that have no weights."""
    if is_relu(call.op):
        return replace(c, zero_when_removed=np.ones(len(c.ids), bool))
    return c.not_zero_when_removed() if getattr(call.op, "threshold", 0) else c


def not_at_zero(walk, call, c):
    """Follow operations that turn zeros into other values."""
    return c.not_zero_when_removed()


def spatial(walk, call, c):
    """Follow pooling, padding, cropping and upsampling, which leave the channels where they are."""
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c


def global_pooling(walk, call, c):
    """Follow global pooling, which makes the channels features."""
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c if call.op.keepdims else replace(c, axis=1)


def reduce(walk, call, c):
    """Follow `keras.ops.mean` and `max` over other axes than the channels'."""
    rank = len(call.inputs[0].shape)
    axes = range(rank) if call.op.axis is None else [a % rank for a in call.op.axis]
    if c.axis in axes or 0 in axes:
        return walk.stop(call, "reduces the channels' axis")
    gone = 0 if call.op.keepdims else sum(a < c.axis for a in axes)
    return replace(c, axis=c.axis - gone)


def batch_norm(walk, call, c):
    """Follow BatchNormalization, which scales and shifts each channel."""
    if channel_axis(call.op, call.inputs[0]) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        walk.bind_weight(call, weight, {0: c.ids})
    return c.not_zero_when_removed()


def layer_norm(walk, call, c):
    """Follow LayerNormalization and RMSNormalization, where each channel depends on all others."""
    rank = len(call.inputs[0].shape)
    axes = call.op.axis if isinstance(call.op.axis, (list, tuple)) else [call.op.axis]
    axes = [a % rank for a in axes]
    if c.axis in axes:
        walk.mark_inexact(call, c.ids, np.zeros(len(c.ids), bool))
        for weight in ("gamma", "beta", "scale"):
            walk.bind_weight(call, weight, {axes.index(c.axis): c.ids})
    return c.not_zero_when_removed()


def group_norm(walk, call, c):
    """Follow GroupNormalization, where each channel depends on those of its group."""
    op = call.op
    if op.axis % len(call.inputs[0].shape) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    if op.groups == len(c.ids):  # each channel alone
        walk.bind_setting(call, "groups", c.ids)
    else:
        walk.mark_inexact(call, c.ids, np.zeros(len(c.ids), bool))
        walk.parts.append((c.ids, op.groups, called(call)))
    for weight in ("gamma", "beta"):
        walk.bind_weight(call, weight, {0: c.ids})
    return c.not_zero_when_removed()


def prelu(walk, call, c):
    """Follow PReLU, which has a slope for each channel unless the axis is shared."""
    if c.axis not in (call.op.shared_axes or ()):
        walk.bind_weight(call, "alpha", {c.axis - 1: c.ids})
    return c


def rescale(walk, call, c):
    """Follow Rescaling by one number."""
    op = call.op
    if np.size(op.scale) > 1 or np.size(op.offset) > 1:
        return walk.stop(call, "has a number for each channel")
    return c if np.all(np.equal(op.offset, 0)) else c.not_zero_when_removed()
