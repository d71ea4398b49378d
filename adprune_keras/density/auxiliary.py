"""Activation density of every ReLU, per channel, as auxiliary outputs of the model's own graph.

AE = positive activations / all activations (Eq. 1). A ReLU's output is never negative, so its sign is
1 where the activation is positive and 0 where not: the positives of a channel are the sum of signs
over the batch and all places (N, H, W). Only that sum, one number a channel, leaves the reduction.
"""

import itertools
from math import gcd, prod

import keras
import numpy as np
from keras import ops

from adprune_keras.density.numbers import Part
from adprune_keras.graph.copy import StandIn, StandIns, is_nested
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.walk import FIXED_WIDTH


class Positives(keras.Operation):
    """Positive values of a ReLU's output per channel, and how many places they are out of.

    The places (N, H, W) form one row. Every `stride`-th of them is counted; the remainder is dropped.
    """

    def __init__(self, axis, stride=1, name=None):
        super().__init__(name=name)
        self.axis = axis
        self.stride = stride

    def call(self, x):
        """Return a float32 vector (C + 1,): the positives of each channel, then the places counted."""
        channels = x.shape[self.axis]
        if self.axis not in (-1, len(x.shape) - 1):
            x = ops.moveaxis(x, self.axis, -1)
        x = ops.reshape(x, (-1, channels))
        if self.stride > 1:  # x[::stride], which TensorFlow on a CPU does number by number
            whole = ops.shape(x)[0] // self.stride * self.stride
            x = ops.reshape(x[:whole], (-1, self.stride * channels))[:, :channels]
        positives = ops.sum(ops.cast(ops.sign(x), "float32"), axis=0)
        places = ops.cast(ops.shape(x)[0], "float32")
        return ops.concatenate([positives, ops.reshape(places, (1,))])

    def compute_output_spec(self, x):
        """Return the vector's shape and dtype."""
        return keras.KerasTensor((x.shape[self.axis] + 1,), "float32")


def density_model(model, groups=None, places=None):
    """Build the auxiliary-output model: the model's own layers, with densities beside the outputs.

    Args:
        model: Functional or built Sequential `keras.Model`. It is not changed; the new model runs
            its layers.
        groups: its `Groups`, where they are known already.
        places: int or `None`, the number of places of each map (H, W) that are counted, or somewhat
            fewer. `None`: all.

    Returns:
        `(aux, parts)`: a `keras.Model` whose output is `{"outputs": the model's own outputs,
        "positives": one vector (C + 1,) per ReLU: the channels' positives in this batch, then the
        number of places that they are out of}`, and the matching list of `Part`. It runs in the
        phase that `aux.phase.training` says, inference at first.

    Raises:
        ValueError: no graph (a subclassed model), or no ReLU in it.
    """
    groups = groups or find_groups(model)
    relus = {place.call: place for place in groups.relus}
    if not relus:
        raise ValueError(
            f"Model '{model.name}' has no ReLU, and activation density counts what a ReLU lets "
            "through. Received: activations "
            f"{sorted({_activation(call.op) for call in groups.trace.calls} - {None})}. "
            "Use ReLU after the convolutions that may be pruned."
        )
    parts = [_part(place, groups, places) for place in groups.relus]
    strides = {place.call: part.stride for place, part in zip(groups.relus, parts, strict=True)}

    def positives(place, outputs):
        name = f"{place.name.replace('/', '_')}_{place.call}_positives"
        return Positives(place.axis, strides[place.call], name=name)(outputs)

    copier = Measured(relus, positives, "positives")
    aux = copier.copy(model)
    aux.phase = copier.phase
    return aux, parts


class Measured(StandIns):
    """Copies a graph with something measured at each ReLU, as outputs beside the model's own.

    Args:
        relus: `{index of a call, as `trace` counts them: Place}`.
        measure: function of (`Place`, the call's outputs) to what is measured.
        key: str, the name of the measurements in the output `{"outputs": ..., key: list}`.
        phase: `Phase` that the copy runs in, or `None` for inference.
    """

    def __init__(self, relus, measure, key, phase=None):
        super().__init__(phase)
        self.relus, self.measure, self.key = relus, measure, key
        self._calls, self._found = itertools.count(), []

    def copy(self, model, path="", inputs=None):
        """Return the copy of one level, with all that is measured in it."""
        outer, self._found = self._found, []
        twin = super().copy(model, path, inputs)
        found, self._found = self._found, outer
        return keras.Model(twin.input, {"outputs": twin.output, self.key: found})

    def call(self, stand_in, path, args, kwargs):
        """Measure after a ReLU; copy a nested model."""
        if is_nested(stand_in.op):
            inner = self.copy(stand_in.op)
            # Each call of a nested model gets its own copy, as the activations differ.
            name = f"{stand_in.name}_{len(self._found)}"
            result = StandIn(inner, name, self.phase)(*args, **kwargs)
            self._found += result[self.key]
            return result["outputs"]
        place, outputs = self.relus.get(next(self._calls)), stand_in(*args, **kwargs)
        if place is not None:
            self._found.append(self.measure(place, outputs))
        return outputs


def _part(place, groups, places):
    shape = groups.trace.calls[place.call].outputs[0].shape
    stride = _stride([n for i, n in enumerate(shape) if i not in (0, place.axis)], places)
    if place.channels is None or (place.channels == FIXED_WIDTH).all():
        width = shape[place.axis]
        everything = np.arange(width)
        return Part(place.name, width, {place.name: (everything, everything, width)}, stride)
    owners, own = {}, np.flatnonzero(place.channels != FIXED_WIDTH)
    numbers = place.channels[own]
    indices = groups.of(numbers)
    for n in np.unique(indices):
        group, mine = groups.groups[n], indices == n
        owners[group.owner] = (own[mine], numbers[mine] - group.start, group.width)
    return Part(place.name, len(place.channels), owners, stride)


def _stride(sizes, places):
    """Return a stride that takes about `places` of a map's H x W places, others in each image.

    It shares no factor with the rows or columns, so that it visits all of them and, from image to image,
    all places. It is smaller than a map, so that at least one place of each image is counted.
    """
    if places is None or None in sizes:
        return 1
    size = prod(sizes)
    stride = max(1, size // places)
    while any(gcd(stride, n) > 1 for n in sizes):
        stride += 1
    return min(stride, max(1, size - 1))  # a number and the one before it share no factor


def _activation(op):
    activation = getattr(op, "activation", None)
    return getattr(activation, "__name__", None)
