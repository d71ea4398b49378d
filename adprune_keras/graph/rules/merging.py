"""Rules of layers that put several maps of channels on top of each other."""

from dataclasses import replace

import numpy as np

from adprune_keras.graph.copy import tensors_in
from adprune_keras.graph.walk import FIXED_WIDTH, Sum, called


def multiply(walk, call, c):
    """Follow Multiply: what is zero in one input is zero in the output."""
    return _elementwise(walk, call, product=True)


def other_merge(walk, call, c):
    """Follow Subtract, Average, Maximum and Minimum."""
    return _elementwise(walk, call)


def add(walk, call, c):
    """Follow Add; where shortcuts are projected, its inputs need not have the same channels."""
    return _elementwise(walk, call, add=True)


def _elementwise(walk, call, product=False, add=False):
    """Follow an operation on the same place of each input."""
    inputs = [(t, walk.at[id(t)]) for t in call.inputs]
    known = [x for _, x in inputs if x.known]
    if reason := _refusal(call, known):
        return walk.stop(call, reason)
    if not known:
        return walk.opaque(call)
    axis = known[0].axis
    if len(inputs) == 1:  # with a number
        return known[0] if product else known[0].not_zero_when_removed()
    wides = _wide_ones(walk, call, inputs, axis)
    joined = wides
    if add and walk.project and call.name not in walk.shared:
        joined = [x for x in wides if x.known and not walk.is_shortcut(x, wides)] or wides
    ids = _tied(walk, call, joined)
    if ids is None:  # only what is spread over the channels could be followed
        return walk.opaque(call)
    if len(joined) < len(wides):
        _project(walk, call, inputs, wides, joined, Sum(axis, ids, ()))
    zero = _zero_when_removed(joined, len(inputs), product)
    return replace(walk.opaque(call), axis=axis, ids=ids, zero_when_removed=zero)


def _refusal(call, known):
    """Return the reason why inputs cannot be merged channel by channel, or `None`."""
    rank = len(call.outputs[0].shape)
    arrays = any(np.ndim(a) for a in call.args if not tensors_in(a))
    if arrays or any(len(t.shape) != rank for t in call.inputs):
        return "combines maps of different rank, or with an array"
    if any(x.axis != known[0].axis for x in known):
        return "combines channels along different axes"
    return None


def _wide_ones(walk, call, inputs, axis):
    """Return the inputs that have all channels; fix one that is spread over them, and mark gates."""
    shape, wides = call.outputs[0].shape, []
    for tensor, x in inputs:
        if tensor.shape[axis] != shape[axis]:
            walk.fix(x.ids, f"{called(call)} spreads it over all channels")
            continue
        wides.append(x)
        sizes = zip(tensor.shape, shape, strict=True)
        if x.known and any(n == 1 != m for i, (n, m) in enumerate(sizes) if i != axis):
            for block in walk.blocks_of(x.ids):
                walk.blocks[block].gate = True
    return wides


def _tied(walk, call, joined):
    """Tie inputs to the first one that is known and return its ids; `None` where none is."""
    first = next((x for x in joined if x.known), None)
    if first is None:
        return None
    for x in joined:
        ids = x.ids if x.known else np.full_like(first.ids, FIXED_WIDTH)
        walk.tie(first.ids, ids, f"{called(call)} puts it on top of a map of given width")
    return first.ids


def _zero_when_removed(joined, inputs, product):
    """Return which channels of the output are zero where their ReLU gives zero."""
    zero = [x.zero_when_removed for x in joined if x.known]
    if product:
        return np.logical_or.reduce(zero)
    if len(joined) == inputs:
        return np.logical_and.reduce(zero)
    return np.zeros_like(zero[0])  # another input comes through where these channels are zero


def _project(walk, call, inputs, wides, joined, found):
    """Note the shortcuts of an Add, which a projection joins to the other inputs if need be."""
    places = []
    for _, x in inputs:
        if not any(x is wide for wide in wides) or any(x is j for j in joined):
            places.append(None)
        elif x.known:
            walk.mark_inexact(call, x.ids, x.zero_when_removed)  # the projection will read them
            places.append(x.ids)
        else:
            places.append(np.full(len(found.out), FIXED_WIDTH))
    walk.sums[call.name] = replace(found, inputs=tuple(places))
