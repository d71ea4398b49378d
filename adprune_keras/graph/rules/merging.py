"""Rules of layers that put several maps of channels on top of each other."""

from dataclasses import replace

import numpy as np

from adprune_keras.graph.copy import tensors_in
from adprune_keras.graph.walk import GIVEN, Sum, called


def multiply(walk, call, c):
    """Multiply: what is zero in one input is zero in the output."""
    return _elementwise(walk, call, product=True)


def other_merge(walk, call, c):
    """Subtract, Average, Maximum, Minimum."""
    return _elementwise(walk, call)


def add(walk, call, c):
    """Add: where shortcuts are projected, its inputs need not have the same channels."""
    return _elementwise(walk, call, add=True)


def _elementwise(walk, call, product=False, add=False):
    shape = call.outputs[0].shape
    arrays = [a for a in call.args if not tensors_in(a) and np.ndim(a)]
    inputs = [(t, walk.at[id(t)]) for t in call.inputs]
    known = [x for _, x in inputs if x.known]
    if arrays or any(len(t.shape) != len(shape) for t, _ in inputs):
        return walk.stop(call, "combines maps of different rank, or with an array")
    if not known:
        return walk.opaque(call)
    axis = known[0].axis
    if any(x.axis != axis for x in known):
        return walk.stop(call, "combines channels along different axes")
    if len(call.inputs) == 1:  # with a number
        return known[0] if product else known[0].heard()

    def wide(t):
        return t.shape[axis] == shape[axis]

    for t, x in inputs:
        if not wide(t):
            walk.fix(x.ids, f"{called(call)} spreads it over all channels")
        elif x.known and any(
            n == 1 != m for i, (n, m) in enumerate(zip(t.shape, shape, strict=True)) if i != axis
        ):
            for block in walk.blocks_of(x.ids):
                walk.blocks[block].gate = True
    wides = [x for t, x in inputs if wide(t)]
    joined = wides
    if add and walk.project and call.name not in walk.shared:
        joined = [x for x in wides if x.known and not walk.is_shortcut(x, wides)] or wides
    joined_known = [x for x in joined if x.known]
    if not joined_known:  # only what is spread over the channels could be followed
        return walk.opaque(call)
    first = joined_known[0]
    for x in joined:
        ids = x.ids if x.known else np.full_like(first.ids, GIVEN)
        walk.tie(first.ids, ids, f"{called(call)} puts it on top of a map of given width")
    if product:
        silent = np.logical_or.reduce([x.silent for x in joined_known])
    elif len(joined) == len(inputs):
        silent = np.logical_and.reduce([x.silent for x in joined_known])
    else:  # something else comes through where these channels are zero
        silent = np.zeros(len(first.ids), bool)
    for x in wides:
        if x.known and not any(x is j for j in joined):
            walk.feel(call, x.ids, x.silent)  # as the projection will
    out = replace(walk.opaque(call), axis=axis, ids=first.ids, silent=silent)
    if len(joined) < len(wides):
        given = np.full(len(first.ids), GIVEN)
        places = (
            None if not wide(t) or any(x is j for j in joined) else x.ids if x.known else given
            for t, x in inputs
        )
        walk.sums[call.name] = Sum(axis, first.ids, tuple(places))
    return out
