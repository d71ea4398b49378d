"""Activation density of every ReLU, per channel, as auxiliary outputs of the model's own graph.

AE = positive activations / all activations (Eq. 1). A ReLU's output is never negative, so its sign is
1 where the activation is positive and 0 where not: the positives of a channel are the sum of signs
over the batch and all places (N, H, W). Only that sum, one number a channel, leaves the reduction.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from adprune_keras.channels import GIVEN
from adprune_keras.groups import Shortcuts, find_groups
from adprune_keras.trace import Phase, StandIn, as_functional, is_nested, replay


@dataclass(frozen=True)
class Part:
    """One ReLU's place in the density vector.

    Attributes:
        relu: name of the operation.
        channels: int, how many its output has.
        owners: `{layer name: (places along the axis, index of the layer's channel at each, the layer's
            width)}`; a ReLU on channels that no layer owns stands under its own name.
        stride: int, one place (H, W) in so many is counted.
    """

    relu: str
    channels: int
    owners: dict
    stride: int = 1


@dataclass(frozen=True)
class Density:
    """Densities of a whole network, over any number of batches.

    Attributes:
        channels: `{layer name: density of each channel, float array of shape (C,)}`. Keys are those
            of `layer_widths`; a ReLU on channels that no layer owns stands under its own name.
        total: float, total AE: all positives over all activations of the network.
    """

    channels: dict
    total: float

    @property
    def layers(self):
        """`{layer name: AE}`: the mean over the layer's channels."""
        return {name: float(np.mean(d)) for name, d in self.channels.items()}


class Positives(keras.Operation):
    """Positive values of a ReLU's output per channel, and how many places they are out of.

    Places (N, H, W) stand in one row; one in `stride` of them is counted, and no remainder at the end.
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
        places: int or `None`, count so many places of each map (H, W), or somewhat fewer; `None`: all.

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

    phase = Phase()
    aux = _measured(as_functional(model), relus, positives, "positives", itertools.count(), phase)
    aux.phase = phase
    return aux, parts


def _measured(plain, relus, measure, key, calls, phase):
    """Copy a graph with `measure(place, outputs)` of each ReLU as outputs under `key`.

    `calls` numbers the calls as `trace` does.
    """
    measured = []

    def call(stand_in, *args, **kwargs):
        if is_nested(stand_in.op):
            inner = _measured(as_functional(stand_in.op), relus, measure, key, calls, phase)
            # Called again, a nested model gets a copy of its own: other calls, other activations.
            result = StandIn(inner, f"{stand_in.name}_{len(measured)}", phase)(*args, **kwargs)
            measured.extend(result[key])
            return result["outputs"]
        place, outputs = relus.get(next(calls)), stand_in(*args, **kwargs)
        if place is not None:
            measured.append(measure(place, outputs))
        return outputs

    twin = replay(plain, call, phase=phase)
    return keras.Model(twin.input, {"outputs": twin.output, key: measured})


def _part(place, groups, places):
    shape = groups.trace.calls[place.call].outputs[0].shape
    stride = _stride([n for i, n in enumerate(shape) if i not in (0, place.axis)], places)
    if place.channels is None or (place.channels == GIVEN).all():
        width = shape[place.axis]
        everything = np.arange(width)
        return Part(place.name, width, {place.name: (everything, everything, width)}, stride)
    owners, own = {}, np.flatnonzero(place.channels != GIVEN)
    numbers = place.channels[own]
    indices = groups.of(numbers)
    for n in np.unique(indices):
        group, mine = groups.groups[n], indices == n
        owners[group.owner] = (own[mine], numbers[mine] - group.start, group.width)
    return Part(place.name, len(place.channels), owners, stride)


def _stride(sizes, places):
    """Return a stride that takes about `places` of a map's H x W places, others in each image.

    It shares no factor with rows or columns, so that it walks over all of them and, from image to image,
    over all places; and it is no larger than a map, so that one image is enough to count at least one.
    """
    if places is None or None in sizes:
        return 1
    size = prod(sizes)
    stride = max(1, size // places)
    while any(gcd(stride, n) > 1 for n in sizes):
        stride += 1
    return min(stride, max(1, size - 1))  # a number and the one before it share no factor


def merge(parts, sums):
    """Turn accumulated sums into densities.

    Args:
        parts: list of `Part`.
        sums: float array (sum of C + 1 over the parts,): for each part the sums over batches of
            each channel's positives, then of the places.

    Returns:
        A `Density`. Channels that several ReLUs see get the mean over all that they saw.
    """
    positives, places, at = {}, {}, 0
    all_positives = all_places = 0.0
    for part in parts:
        entry = np.asarray(sums[at : at + part.channels + 1], dtype=np.float64)
        at += part.channels + 1
        entry *= part.stride  # what all places would have counted
        all_positives += entry[:-1].sum()
        all_places += entry[-1] * part.channels
        for owner, (seen, channel, width) in part.owners.items():
            np.add.at(positives.setdefault(owner, np.zeros(width)), channel, entry[seen])
            np.add.at(places.setdefault(owner, np.zeros(width)), channel, entry[-1])
    with np.errstate(invalid="ignore"):  # no batch yet: 0 / 0 is NaN, and says so
        channels = {owner: positives[owner] / places[owner] for owner in positives}
        return Density(channels, float(np.divide(all_positives, all_places)))


def activation_density(
    model: keras.Model,
    data: NDArray[Any] | keras.utils.PyDataset | Iterable[Any],
    batch_size: int = 128,
    shortcuts: Shortcuts = "project",
) -> dict[str, NDArray[np.float64]]:
    """Measure the activation density of a model on data, per channel (Eq. 1).

    The forward pass is inference (BN with its moving statistics, no dropout). During `fit`,
    `ADPrune` measures the same in the training pass.

    Args:
        model: Functional or built Sequential `keras.Model`.
        data: NumPy array of images, `tf.data.Dataset`, `keras.utils.PyDataset`, or any iterable of
            batches; a batch may be `x`, `(x, y)` or `(x, y, sample_weight)`.
        batch_size: int, for arrays only. Defaults to 128.
        shortcuts: `"project"` (default) or `"couple"`, as in `layer_widths`: whose channels are one.

    Returns:
        `{layer name: density of each channel, float array of shape (C,)}`, values in [0, 1].

    Raises:
        ValueError: no graph, no ReLU, or no batch in `data`.

    Example:
    >>> activation_density(model, x_test)["block1_conv1"].shape
    (64,)
    """
    aux, parts = density_model(model, find_groups(model, shortcuts))
    sums, batches = None, 0
    for batch in _batches(data, batch_size):
        step = np.concatenate(aux.predict_on_batch(batch)["positives"]).astype(np.float64)
        sums = step if sums is None else sums + step
        batches += 1
    if not batches:
        raise ValueError("`data` has no batch to measure. Received: an empty " + type(data).__name__)
    return merge(parts, sums).channels


def activation_maps(model, images):
    """Return what each ReLU puts out for some images, averaged over its channels (Fig. 5).

    The forward pass is inference.

    Args:
        model: Functional or built Sequential `keras.Model`.
        images: array (N, H, W, C), prepared as for training.

    Returns:
        `{name of a ReLU: float array (N, h, w)}` in graph order, of the ReLUs whose output is an image.
        A ReLU that runs more than once stands there with its first run.
    """
    groups, maps = find_groups(model), {}
    ranks = [len(call.outputs[0].shape) for call in groups.trace.calls]
    relus = {place.call: place for place in groups.relus if ranks[place.call] == 4}

    def average(place, outputs):
        return ops.mean(ops.cast(outputs, "float32"), axis=place.axis)

    aux = _measured(as_functional(model), relus, average, "maps", itertools.count(), Phase())
    found = aux(ops.convert_to_tensor(images), training=False)["maps"] if relus else []
    for place, values in zip(relus.values(), found, strict=True):
        maps.setdefault(place.name, ops.convert_to_numpy(values))
    return maps


def _batches(data, batch_size):
    if hasattr(data, "shape") and hasattr(data, "__getitem__"):
        yield from (data[i : i + batch_size] for i in range(0, len(data), batch_size))
        return
    batches = (data[i] for i in range(len(data))) if _is_sequence(data) else data
    for batch in batches:
        yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def _is_sequence(data):
    return isinstance(data, keras.utils.PyDataset)


def _activation(op):
    activation = getattr(op, "activation", None)
    return getattr(activation, "__name__", None)
