"""Rules of layers that move channels to other places."""

from dataclasses import replace

import numpy as np
from keras import layers

from adprune_keras.graph.walk import GIVEN, called


def reshape(walk, call, c):
    """Flatten and Reshape: follow each channel to where the reshape puts it."""
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
                walk.count(call, (key, at), c.ids[line[0]])
            return replace(c, axis=axis + 1, ids=c.ids[line[0]], silent=c.silent[line[0]])
    return walk.stop(call, "takes the channels' axis apart")


def permute(walk, call, c):
    """Permute."""
    return replace(c, axis=1 + call.op.dims.index(c.axis))


def repeat_vector(walk, call, c):
    """RepeatVector."""
    return replace(c, axis=2)


def concatenate(walk, call, c):
    """Concatenate, along the channels or another axis."""
    inputs = [walk.at[id(t)] for t in call.inputs]
    known = [x for x in inputs if x.known]
    axis = call.op.axis % len(call.outputs[0].shape)
    if any(x.axis != known[0].axis for x in known):
        return walk.stop(call, "joins channels along different axes")
    out = walk.opaque(call)
    if known[0].axis != axis:
        for x in inputs:
            ids = x.ids if x.known else np.full_like(known[0].ids, GIVEN)
            walk.tie(known[0].ids, ids, f"{called(call)} joins it to a map of given width")
        silent = np.logical_and.reduce([x.silent for x in known])
        return replace(out, axis=known[0].axis, ids=known[0].ids, silent=silent)
    sizes = [t.shape[axis] for t in call.inputs]
    ids = [x.ids if x.known else np.full(n, GIVEN) for x, n in zip(inputs, sizes, strict=True)]
    silent = [x.silent if x.known else np.ones(n, bool) for x, n in zip(inputs, sizes, strict=True)]
    return replace(out, axis=axis, ids=np.concatenate(ids), silent=np.concatenate(silent))
