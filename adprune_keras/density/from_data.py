"""Densities and activation maps of a model, from data."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from adprune_keras.density.auxiliary import Measured, density_model
from adprune_keras.density.numbers import merge
from adprune_keras.graph.choices import Shortcuts
from adprune_keras.graph.groups import find_groups


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
    return densities_of(model, find_groups(model, shortcuts), data, batch_size)


def densities_of(model, groups, data, batch_size=128):
    """Do the work of `activation_density` for groups that are known already."""
    aux, parts = density_model(model, groups)
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
        A ReLU that runs more than once is listed with its first run.
    """
    groups, maps = find_groups(model), {}
    ranks = [len(call.outputs[0].shape) for call in groups.trace.calls]
    relus = {place.call: place for place in groups.relus if ranks[place.call] == 4}

    def average(place, outputs):
        return ops.mean(ops.cast(outputs, "float32"), axis=place.axis)

    aux = Measured(relus, average, "maps").copy(model)
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
