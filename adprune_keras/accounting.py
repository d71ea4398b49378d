"""Multiply-accumulates and parameters, both ways of counting, and the paper's metrics on them.

One multiply-accumulate is one MAC. For a convolution with N input channels, M output channels,
kernel k x k and output O x O the paper counts O^2 N k^2 M MACs and N M k^2 parameters (section IV-A).

- **paper**: convolutions that own a width. No projections on shortcuts, no Dense layer, no bias, no BN.
- **deployed**: what the exported file holds and runs. Every convolution and Dense layer, shortcuts
  included; parameters are kernels plus one bias per channel wherever a bias or a BN follows, because
  BN is folded into the layer before it. A BN that has nothing to fold into keeps scale and offset.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import keras
from keras import layers

from adprune_keras.cut import Cut
from adprune_keras.groups import PROJECTION, find_groups
from adprune_keras.rules import channel_axis

Count = Literal["paper", "deployed"]
COUNTS = get_args(Count)
# Layers whose weights scale or shift one value each: they count as they ship, and no MAC with them.
_WITHOUT_KERNEL = (
    *(layers.PReLU, layers.LayerNormalization, layers.RMSNormalization, layers.GroupNormalization),
    layers.Normalization,
)


@dataclass(frozen=True)
class Total:
    """MACs and parameters of one image through one network, ints."""

    macs: int
    params: int


@dataclass(frozen=True)
class Row:
    """One layer's share.

    Attributes:
        layer: layer name.
        kind: class name of the layer.
        width: int, output channels (units for a Dense layer).
        output_shape: shape of its output without the batch axis.
        macs: int, for one image.
        params: int, kernel entries alone.
        bias: int, further parameters in the deployed file (folded biases and scales).
        owns_width: True where the paper counts the layer.
    """

    layer: str
    kind: str
    width: int
    output_shape: tuple[int | None, ...]
    macs: int
    params: int
    bias: int
    owns_width: bool


@dataclass(frozen=True)
class Cost:
    """Rows per layer, and their totals both ways of counting (ints, one image)."""

    rows: tuple[Row, ...]

    @property
    def paper(self) -> Total:
        """`Total` of the layers that own a width: section IV-A of the paper."""
        counted = [r for r in self.rows if r.owns_width]
        return Total(sum(r.macs for r in counted), sum(r.params for r in counted))

    @property
    def deployed(self) -> Total:
        """`Total` of everything in the graph that ships."""
        return Total(sum(r.macs for r in self.rows), sum(r.params + r.bias for r in self.rows))

    def by_layer(self) -> dict[str, dict[str, int | bool]]:
        """Return `{layer name: {"macs", "params", "bias", "owns_width"}}`, as in `Row`, in graph order.

        Calls of a shared layer are added up. The paper counts `macs` and `params` of the layers that own
        a width; deployed are `macs`, and `params` with `bias`, of all.
        """
        found: dict[str, dict[str, int | bool]] = {}
        for row in self.rows:
            share = {"macs": row.macs, "params": row.params, "bias": row.bias}
            if before := found.get(row.layer):
                share = {name: value + before[name] for name, value in share.items()}
            found[row.layer] = {**share, "owns_width": row.owns_width}
        return found


def cost(model: keras.Model) -> Cost:
    """Count a model's MACs and parameters, for one image.

    Args:
        model: Functional or built Sequential `keras.Model` whose spatial sizes are known.

    Returns:
        A `Cost`: `.rows`, `.paper.macs`, `.paper.params`, `.deployed.macs`, `.deployed.params`.

    Raises:
        ValueError: no graph (a subclassed model), a spatial size that is `None`, or a layer with
            weights whose MACs this module does not know.

    Example:
    >>> cost(models.ResNet18()).deployed.macs
    555422720
    """
    groups = find_groups(model)
    return cost_after(Cut(groups, {}), groups.owners())


def cost_after(cut, owners):
    """Count what a network would cost with its channels cut, without building it.

    Args:
        cut: `Cut` of the network's groups.
        owners: names of the layers that own a width by the paper's reading (`Groups.owners` with
            projections on shortcuts).

    Returns:
        A `Cost`, projections that the cut makes necessary included.
    """
    trace = cut.groups.trace
    consumers, makers = trace.consumers(), trace.makers()
    rows, weighed = [], set()
    for call in trace.calls:
        op = call.op
        weights = [(w.name, prod(cut.shape(call.name, w))) for w in getattr(op, "weights", ())]
        kernels = sum(size for name, size in weights if name.endswith("kernel"))
        others = sum(size for name, size in weights if not name.endswith("kernel"))
        macs = 0
        if isinstance(op, layers.Dense) or _is_convolution(op):
            readers = consumers.get(id(call.outputs[0]), ())
            if len(readers) == 1 and isinstance(readers[0].op, layers.BatchNormalization):
                others = _width(call, cut)
            macs = kernels * _places(call)
        elif isinstance(op, layers.BatchNormalization):
            before = makers.get(id(call.inputs[0]))
            if (
                before is not None
                and (isinstance(before.op, layers.Dense) or _is_convolution(before.op))
                and len(consumers[id(call.inputs[0])]) == 1
            ):
                weights = ()  # folded
            else:
                others = 2 * _width(call, cut)
        elif type(op) not in _WITHOUT_KERNEL and any(
            len(w.shape) > 1 for w in getattr(op, "weights", ())
        ):
            raise ValueError(
                f"This version cannot count layer '{call.name}' ({type(op).__name__}): it knows the "
                "MACs of convolutions and of Dense layers."
            )
        if weights:
            again = call.name in weighed  # a shared layer computes at each call and is stored once
            rows.append(
                Row(
                    call.name,
                    type(op).__name__,
                    _width(call, cut),
                    tuple(call.outputs[0].shape[1:]),
                    macs,
                    0 if again else kernels,
                    0 if again else others,
                    owns_width=_is_convolution(op) and call.name in owners,
                )
            )
            weighed.add(call.name)
        rows += _projections(call, cut)
    return Cost(tuple(rows))


def ops_reduction(
    baseline: keras.Model | Cost, pruned: keras.Model | Cost, count: Count = "paper"
) -> float:
    """OPS reduction, Eq. 3: MACs of the baseline over MACs of the pruned network.

    Args:
        baseline: a `keras.Model` or its `Cost`.
        pruned: likewise.
        count: `"paper"` or `"deployed"`; see the module's docstring. Defaults to the paper's.

    Returns:
        float; above 1 where the pruned network computes less.

    Raises:
        ValueError: unknown `count`, or a network with nothing to count.
    """
    return _reduction(baseline, pruned, count, "macs")


def params_reduction(
    baseline: keras.Model | Cost, pruned: keras.Model | Cost, count: Count = "paper"
) -> float:
    """Parameters reduction: Eq. 3 with parameters for MACs (Table I). Arguments as there."""
    return _reduction(baseline, pruned, count, "params")


def training_complexity(nets: Iterable[tuple[float, float]]) -> float:
    """Training complexity, Eq. 4: the sum of `epochs / OPS reduction` over the nets of a run.

    A dense run of E epochs scores E, so the result reads as "epochs of the dense network".

    Args:
        nets: list of `(reduction, epochs)`, one for each net in order; the dense one's is 1.

    Returns:
        float, in epochs of the baseline.

    Example:
    >>> training_complexity([(1, 100), (6.0, 210)])  # ResNet18 on CIFAR-10, net1: Table II's 135.0
    135.0
    """
    nets = list(nets)
    for reduction, epochs in nets:
        if not (reduction > 0 and epochs >= 0):
            raise ValueError(
                "Each net must be (reduction > 0, epochs >= 0). "
                f"Received: ({reduction}, {epochs}) in nets={nets}"
            )
    return float(sum(epochs / reduction for reduction, epochs in nets))


def training_memory_complexity(nets: Iterable[tuple[float, float]]) -> float:
    """Training memory complexity, section IV-D: Eq. 4 with parameters reductions in `nets`."""
    return training_complexity(nets)


def _reduction(baseline, pruned, count, what):
    if count not in COUNTS:
        raise ValueError(f"`count` must be one of {COUNTS}. Received: count={count!r}")
    before, after = (
        getattr(getattr(c if isinstance(c, Cost) else cost(c), count), what) for c in (baseline, pruned)
    )
    if not after:
        raise ValueError(
            f"The pruned network has no {what} to count (count={count!r}): "
            "it has no convolution that owns a width."
        )
    return before / after


def _projections(call, cut):
    """Rows of the 1x1 convolutions that an Add needs once its inputs are cut."""
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


def _is_convolution(op):
    return isinstance(op, layers.Layer) and hasattr(op, "kernel_size")


def _width(call, cut):
    """Channels of a layer's output after the cut."""
    tensor = call.outputs[0]
    channels = cut.groups.channels.get(id(tensor))
    return tensor.shape[channel_axis(call.op, tensor)] if channels is None else cut.size(channels)


def _places(call):
    """Times that each kernel entry is used for one image.

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
