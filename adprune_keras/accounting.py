"""Multiply-accumulates and parameters, both ways of counting, and the paper's metrics on them.

One multiply-accumulate is one MAC. For a convolution with N input channels, M output channels,
kernel k x k and output O x O the paper counts O^2 N k^2 M MACs and N M k^2 parameters (section IV-A).

- **paper**: convolutions that own a width. No projections on shortcuts, no Dense layer, no bias, no BN.
- **deployed**: what the exported file holds and runs. Every convolution and Dense layer, shortcuts
  included; parameters are kernels plus one bias per channel wherever a bias or a BN follows, because
  BN is folded into the layer before it. A BN that has nothing to fold into keeps scale and offset.
"""

from dataclasses import dataclass
from math import prod

from keras import layers

from adprune_keras.groups import find_groups

COUNTS = ("paper", "deployed")


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
    output_shape: tuple
    macs: int
    params: int
    bias: int
    owns_width: bool


@dataclass(frozen=True)
class Cost:
    """Rows per layer, and their totals both ways of counting (ints, one image)."""

    rows: tuple

    @property
    def paper(self):
        """`Total` of the layers that own a width: section IV-A of the paper."""
        counted = [r for r in self.rows if r.owns_width]
        return Total(sum(r.macs for r in counted), sum(r.params for r in counted))

    @property
    def deployed(self):
        """`Total` of everything in the graph that ships."""
        return Total(sum(r.macs for r in self.rows), sum(r.params + r.bias for r in self.rows))


def cost(model):
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
    shortcuts = groups.shortcuts()
    consumers = groups.trace.consumers()
    makers = {id(t): call for call in groups.trace.calls for t in call.outputs}
    rows, weighed = [], set()
    for call in groups.trace.calls:
        op = call.op
        again = op.name in weighed  # a shared layer computes at each call and is stored once
        if isinstance(op, layers.Dense) or _is_convolution(op):
            readers = consumers.get(id(call.outputs[0]), ())
            folds = len(readers) == 1 and isinstance(readers[0].op, layers.BatchNormalization)
            width = call.outputs[0].shape[_channel_axis(op)]
            kernel = prod(op.kernel.shape)
            rows.append(
                Row(
                    op.name,
                    type(op).__name__,
                    width,
                    tuple(call.outputs[0].shape[1:]),
                    _macs(call),
                    0 if again else kernel,
                    0 if again or not (op.use_bias or folds) else width,
                    owns_width=_is_convolution(op) and op.name not in shortcuts,
                )
            )
        elif isinstance(op, layers.BatchNormalization):
            before = makers.get(id(call.inputs[0]))
            folded = (
                before is not None
                and (isinstance(before.op, layers.Dense) or _is_convolution(before.op))
                and len(consumers[id(call.inputs[0])]) == 1
            )
            if not folded:
                shape = tuple(call.outputs[0].shape[1:])
                width = call.outputs[0].shape[op.axis]
                bias = 0 if again else 2 * width
                rows.append(Row(op.name, "BatchNormalization", width, shape, 0, 0, bias, False))
        elif any(len(w.shape) > 1 for w in getattr(op, "weights", ())):
            raise ValueError(
                f"This version cannot count layer '{op.name}' ({type(op).__name__}): it knows the "
                "MACs of convolutions with one kernel and of Dense layers."
            )
        weighed.add(op.name)
    return Cost(tuple(rows))


def ops_reduction(baseline, pruned, count="paper"):
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


def params_reduction(baseline, pruned, count="paper"):
    """Parameters reduction: Eq. 3 with parameters for MACs (Table I). Arguments as there."""
    return _reduction(baseline, pruned, count, "params")


def training_complexity(nets):
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


def training_memory_complexity(nets):
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


def _is_convolution(op):
    return isinstance(op, layers.Layer) and hasattr(op, "kernel_size") and hasattr(op, "kernel")


def _channel_axis(op):
    return 1 if getattr(op, "data_format", None) == "channels_first" else -1


def _macs(call):
    """MACs of one call: kernel entries, each used once for every place it is applied to.

    A convolution applies its kernel at each output position, a transposed one at each input
    position, a Dense layer along all leading axes.
    """
    op = call.op
    placed = call.inputs[0] if "Transpose" in type(op).__name__ else call.outputs[0]
    shape = list(placed.shape[1:])
    del shape[_channel_axis(op) if _channel_axis(op) == -1 else 0]
    if None in shape:
        raise ValueError(
            f"The MACs of layer '{op.name}' depend on the image size, which the model leaves open: "
            f"its output shape is {call.outputs[0].shape}. Rebuild the model with a fixed "
            "`input_shape` to count it."
        )
    return prod(shape) * prod(op.kernel.shape)
