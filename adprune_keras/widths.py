"""From densities to the next net's widths: pure functions, no model in sight."""

from dataclasses import dataclass
from math import floor


@dataclass(frozen=True)
class WidthRule:
    """How a layer's density becomes its new width.

    The paper's rule is `round(AE x current width)` (Algorithm 1); the rest are guards around it.

    Args:
        min_width: int, channels that a layer keeps at the least (or its own width, if smaller).
            Defaults to 4: the narrowest layer of the paper's Table I has 5 channels, and nets with
            layers of one or two channels no longer train.
        round_to: int, new widths are rounded to the nearest multiple of it, never above the
            current width. Defaults to 1, the paper's; 8 suits SIMD units, on which 27 channels cost
            as much as 32.

    Raises:
        ValueError: either is not an int of at least 1.
    """

    min_width: int = 4
    round_to: int = 1

    def __post_init__(self):
        for name in ("min_width", "round_to"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be an int of at least 1. Received: {name}={value!r}")

    def __call__(self, width, density):
        """Return the new width of a layer.

        Args:
            width: int, its current width.
            density: float, its activation density (AE), in [0, 1].

        Raises:
            ValueError: the density is not a number in [0, 1].
        """
        if not 0 <= density <= 1:
            raise ValueError(f"A density must be in [0, 1]. Received: {density}")
        wanted = floor(density * width / self.round_to + 0.5) * self.round_to
        return min(width, max(wanted, self.round_to, self.min_width))


def next_widths(widths, densities, rule):
    """Apply a rule to every layer (lines 21 to 24 of Algorithm 1).

    Args:
        widths: `{layer name: current width}`.
        densities: `{layer name: AE}`; entries beyond `widths` are ignored.
        rule: `WidthRule`.

    Returns:
        `{layer name: new width}`, in the order of `widths`.

    Raises:
        ValueError: a layer's density is missing or not in [0, 1]; the message names the layer.
    """
    result = {}
    for layer, width in widths.items():
        if layer not in densities:
            raise ValueError(f"No density for layer '{layer}'. Received: {sorted(densities)}")
        try:
            result[layer] = rule(width, densities[layer])
        except ValueError as e:
            raise ValueError(f"Layer '{layer}': {e}") from e
    return result
