"""Multiply-accumulates and parameters, both ways of counting, and the paper's metrics on them.

One multiply-accumulate is one MAC. For a convolution with N input channels, M output channels,
kernel k x k and output O x O the paper counts O^2 N k^2 M MACs and N M k^2 parameters (section IV-A).

- **paper**: convolutions that own a width. No projections on shortcuts, no Dense layer, no bias, no BN.
- **deployed**: what the exported file holds and runs. Every convolution and Dense layer is counted,
  shortcuts included. Parameters are the kernels, and one bias per channel wherever a bias or a BN
  follows, because BN is folded into the layer before it. A BN that cannot be folded keeps its scale
  and offset.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Count = Literal["paper", "deployed"]
COUNTS = get_args(Count)


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


def reduction(baseline: Cost, pruned: Cost, count: Count, what: Literal["macs", "params"]) -> float:
    """Return a figure of the baseline over that of the pruned network (Eq. 3).

    Raises:
        ValueError: unknown `count`, or a network with nothing to count.
    """
    if count not in COUNTS:
        raise ValueError(f"`count` must be one of {COUNTS}. Received: count={count!r}")
    before, after = (getattr(getattr(c, count), what) for c in (baseline, pruned))
    if not after:
        raise ValueError(
            f"The pruned network has no {what} to count (count={count!r}): "
            "it has no convolution that owns a width."
        )
    return before / after
