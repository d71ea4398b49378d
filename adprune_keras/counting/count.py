"""Count what a network costs, layer by layer, before or after a cut."""

from dataclasses import replace
from math import prod

import keras
from keras import layers

from adprune_keras.counting.counts import Cost, Row
from adprune_keras.graph.cut import Cut
from adprune_keras.graph.groups import PROJECTION, Groups, find_groups
from adprune_keras.graph.kinds import channel_axis

# Layers whose weights scale or shift one value each: they count as they ship, and no MAC with them.
_WITHOUT_KERNEL = (
    *(layers.PReLU, layers.LayerNormalization, layers.RMSNormalization, layers.GroupNormalization),
    layers.Normalization,
)


def cost(model: keras.Model, groups: Groups | None = None) -> Cost:
    """Count a model's MACs and parameters, for one image.

    Args:
        model: Functional or built Sequential `keras.Model` whose spatial sizes are known.
        groups: its `Groups`, as `find_groups(model, shortcuts)` returns them; either reading of
            shortcuts counts the same. `None` (default): `cost` finds them.

    Returns:
        A `Cost`: `.rows`, `.paper.macs`, `.paper.params`, `.deployed.macs`, `.deployed.params`.

    Raises:
        ValueError: no graph (a subclassed model), a spatial size that is `None`, or a layer with
            weights whose MACs this module does not know.

    Example:
    >>> cost(models.ResNet18()).deployed.macs
    555422720
    """
    return cost_after(Cut(groups or find_groups(model), {}))


def cost_after(cut):
    """Count what a network would cost with its channels cut, without building it.

    Args:
        cut: `Cut` of the network's groups.

    Returns:
        A `Cost`, projections that the cut makes necessary included.
    """
    trace = cut.groups.trace
    consumers, makers = trace.consumers(), trace.makers()
    rows, stored = [], set()
    for call in trace.calls:
        if getattr(call.op, "weights", ()) and not _is_folded(call, makers, consumers):
            readers = consumers.get(id(call.outputs[0]), ())
            row = _row(call, cut, readers)
            if call.name in stored:  # a shared layer computes at each call and is stored once
                row = replace(row, params=0, bias=0)
            rows.append(row)
            stored.add(call.name)
        rows += _projections(call, cut)
    return Cost(tuple(rows))


def _row(call, cut, readers):
    """Count one call of a layer with weights; `readers` are the calls that read its output."""
    op, macs = call.op, 0
    sizes = [(w.name, prod(cut.shape(call.name, w))) for w in op.weights]
    kernels = sum(size for name, size in sizes if name.endswith("kernel"))
    others = sum(size for name, size in sizes if not name.endswith("kernel"))
    if _has_kernel(op):
        macs = kernels * _places(call)
        if len(readers) == 1 and isinstance(readers[0].op, layers.BatchNormalization):
            others = _width(call, cut)  # the bias that it gets from the BN
    elif isinstance(op, layers.BatchNormalization):
        others = 2 * _width(call, cut)
    elif type(op) not in _WITHOUT_KERNEL and any(len(w.shape) > 1 for w in op.weights):
        raise ValueError(
            f"This version cannot count layer '{call.name}' ({type(op).__name__}): it knows the "
            "MACs of convolutions and of Dense layers."
        )
    return Row(
        call.name,
        type(op).__name__,
        _width(call, cut),
        tuple(call.outputs[0].shape[1:]),
        macs,
        kernels,
        others,
        owns_width=_is_convolution(op) and call.name in cut.groups.paper_owners,
    )


def _is_folded(call, makers, consumers):
    """True for a BatchNormalization that ships as part of the layer before it."""
    if not isinstance(call.op, layers.BatchNormalization):
        return False
    before = makers.get(id(call.inputs[0]))
    return before is not None and _has_kernel(before.op) and len(consumers[id(call.inputs[0])]) == 1


def _projections(call, cut):
    """Return rows for the 1x1 convolutions that an Add needs once its inputs are cut."""
    found = cut.groups.sums.get(call.name)
    rows = []
    for channels in found.inputs if found else ():
        if channels is not None and cut.differs(channels, found.out):
            shape = tuple(call.outputs[0].shape[1:])
            width, kernel = cut.size(found.out), cut.size(found.out) * cut.size(channels)
            places = prod(n for axis, n in enumerate(shape, start=1) if axis != found.axis)
            name = call.name.removesuffix("_add") + PROJECTION.format("")
            rows.append(Row(name, "Projection", width, shape, kernel * places, kernel, width, False))
    return rows


def _has_kernel(op):
    return isinstance(op, layers.Dense) or _is_convolution(op)


def _is_convolution(op):
    return isinstance(op, layers.Layer) and hasattr(op, "kernel_size")


def _width(call, cut):
    """Return the number of channels of a layer's output after the cut."""
    tensor = call.outputs[0]
    channels = cut.groups.channels.get(id(tensor))
    return tensor.shape[channel_axis(call.op, tensor)] if channels is None else cut.size(channels)


def _places(call):
    """Return how often each kernel entry is used for one image.

    A convolution applies its kernel at each output position, a transposed one at each input
    position, a Dense layer along all leading axes.
    """
    placed = call.inputs[0] if "Transpose" in type(call.op).__name__ else call.outputs[0]
    axis = channel_axis(call.op, placed)
    shape = [n for i, n in enumerate(placed.shape) if i not in (0, axis)]
    if None in shape:
        raise ValueError(
            f"The MACs of layer '{call.name}' depend on the image size, which the model leaves open: "
            f"its output shape is {call.outputs[0].shape}. Rebuild the model with a fixed "
            "`input_shape` to count it."
        )
    return prod(shape)
