"""Rules of layers that move channels to other places."""

from dataclasses import replace

import numpy as np
from keras import layers

from adprune_keras.graph.walk import FIXED_WIDTH, called


def reshape(walk, call, c):
    """Follow each channel to where Flatten or Reshape puts it."""
    before, after = call.inputs[0].shape[1:], call.outputs[0].shape[1:]
    if None in before or None in after:
        return walk.stop(call, "reshapes a map of unknown size")
    places = np.arange(len(c.ids)).reshape([-1 if i + 1 == c.axis else 1 for i in range(len(before))])
    places = np.broadcast_to(places, before)
    if getattr(call.op, "data_format", None) == "channels_first" and len(before) > 1:
        places = np.moveaxis(places, 0, -1)  # Flatten does so first
    places = places.reshape(after)
    for axis in reversed(range(len(after))):
        line = np.moveaxis(places, axis, -1).reshape(-1, after[axis])
        if len(c.ids) <= after[axis] and (line == line[0]).all():
            key = {layers.Reshape: "target_shape"}.get(type(call.op), "newshape")
            at = axis if key == "target_shape" else axis + 1
            if hasattr(call.op, key) and getattr(call.op, key)[at] != -1:
                walk.bind_setting(call, (key, at), c.ids[line[0]])
            return replace(
                c, axis=axis + 1, ids=c.ids[line[0]], zero_when_removed=c.zero_when_removed[line[0]]
            )
    return walk.stop(call, "takes the channels' axis apart")


def permute(walk, call, c):
    """Follow Permute."""
    return replace(c, axis=1 + call.op.dims.index(c.axis))


def repeat_vector(walk, call, c):
    """Follow RepeatVector."""
    return replace(c, axis=2)


def concatenate(walk, call, c):
    """Follow Concatenate, along the channels or another axis."""
    inputs = [walk.at[id(t)] for t in call.inputs]
    known = [x for x in inputs if x.known]
    axis = call.op.axis % len(call.outputs[0].shape)
    if any(x.axis != known[0].axis for x in known):
        return walk.stop(call, "joins channels along different axes")
    out = walk.opaque(call)
    if known[0].axis != axis:
        for x in inputs:
            ids = x.ids if x.known else np.full_like(known[0].ids, FIXED_WIDTH)
            walk.tie(known[0].ids, ids, f"{called(call)} joins it to a map of given width")
        zero = np.logical_and.reduce([x.zero_when_removed for x in known])
        return replace(out, axis=known[0].axis, ids=known[0].ids, zero_when_removed=zero)
    sizes = [t.shape[axis] for t in call.inputs]
    ids = [x.ids if x.known else np.full(n, FIXED_WIDTH) for x, n in zip(inputs, sizes, strict=True)]
    zero = [
        x.zero_when_removed if x.known else np.ones(n, bool) for x, n in zip(inputs, sizes, strict=True)
    ]
    return replace(out, axis=axis, ids=np.concatenate(ids), zero_when_removed=np.concatenate(zero))
