"""Rules of layers that mix the channels that they read and make new ones."""

from adprune_keras.graph.kinds import channel_axis
from adprune_keras.graph.rules.pointwise import activate, depthwise
from adprune_keras.graph.walk import called


def _produce(walk, call, c, key, kernels, parts=1):
    """Follow any layer that mixes the channels it reads and makes new ones.

    `kernels(ids read, ids made)` returns the axes of each weight that are bound to them. `key` is the
    width in the layer's config, and `parts` are the groups of a grouped convolution.
    """
    axis = channel_axis(call.op, call.inputs[0])
    ids = walk.read(call, c, axis)
    out = walk.make(call, c, axis, getattr(call.op, key), key)
    if parts > 1:
        walk.parts += [(run, parts, called(call)) for run in (out.ids, ids)]
    for name, axes in kernels(ids, out.ids).items():
        walk.bind_weight(call, name, axes, parts)
    walk.bind_weight(call, "bias", {0: out.ids})
    return activate(walk, call, out)


def convolution(walk, call, c):
    """Follow Conv1D to Conv3D, grouped ones too."""
    op = call.op
    if op.groups > 1 and op.groups == call.inputs[0].shape[channel_axis(op, call.inputs[0])]:
        return depthwise(walk, call, c)
    return _produce(
        walk, call, c, "filters", lambda ids, made: {"kernel": {-2: ids, -1: made}}, op.groups
    )


def transposed(walk, call, c):
    """Follow Conv1DTranspose to Conv3DTranspose."""
    return _produce(walk, call, c, "filters", lambda ids, made: {"kernel": {-1: ids, -2: made}})


def separable(walk, call, c):
    """Follow SeparableConv1D and SeparableConv2D."""

    def kernels(ids, made):
        spread = ids.repeat(call.op.depth_multiplier)
        return {"depthwise_kernel": {-2: ids}, "pointwise_kernel": {-2: spread, -1: made}}

    return _produce(walk, call, c, "filters", kernels)


def dense(walk, call, c):
    """Follow Dense, which reads the last axis."""
    return _produce(walk, call, c, "units", lambda ids, made: {"kernel": {0: ids, 1: made}})
