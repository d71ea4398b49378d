"""From densities to the next net's widths: pure functions, no model in sight."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, lcm
from numbers import Real

from adprune_keras.settings import check, setting

_Pattern = str | re.Pattern[str]


@dataclass(frozen=True, kw_only=True)
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
        max_shrink: float in (0, 1], the largest share of a layer's channels that one prune may take.
            Defaults to 1, no limit, as in the paper: density alone decides.
        include: name or regular expression, or a list of them; only layers that one of them matches in
            full are pruned. Names are those of `layer_widths`. Defaults to `None`: all.
        exclude: likewise, layers that keep their width. Defaults to `None`: none.

    Raises:
        ValueError: a value out of its range, or a pattern that is no regular expression.
    """

    min_width: int = setting(
        4, "Channels a layer keeps at the least; with one or two, nets no longer train.", least=1
    )
    round_to: int = setting(
        1,
        "New widths are multiples of this. 1 is the paper's; 8 runs faster on most processors.",
        least=1,
    )
    max_shrink: float = setting(
        1.0, "Largest share of a layer's channels that one prune takes; 1: AE alone decides."
    )
    include: _Pattern | Iterable[_Pattern] | None = setting(
        None,
        "Prune these layers only: name or regular expression; may be repeated. Default: all.",
        repeat=True,
    )
    exclude: _Pattern | Iterable[_Pattern] | None = setting(
        None,
        "Never prune these layers: name or regular expression; may be repeated. Default: none.",
        repeat=True,
    )

    def __post_init__(self) -> None:
        shrink = self.max_shrink
        if isinstance(shrink, bool) or not isinstance(shrink, int | float) or not 0 < shrink <= 1:
            raise ValueError(
                "`max_shrink` is a share of a layer's channels and must be above 0 and at most 1. "
                f"Received: max_shrink={shrink!r}"
            )
        check(self)
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))

    def covers(self, layer: str) -> bool:
        """True where the rule may change the width of the layer of this name."""

        def matches(patterns):
            return any(layer == p or re.fullmatch(p, layer) for p in patterns)

        return (self.include is None or matches(self.include)) and not matches(self.exclude or ())

    def check(self, layers: Iterable[str]) -> None:
        """Raise `ValueError` where a pattern matches none of the layers: most likely misspelt."""
        for name in ("include", "exclude"):
            for pattern in getattr(self, name) or ():
                if not any(layer == pattern or re.fullmatch(pattern, layer) for layer in layers):
                    raise ValueError(
                        f"`{name}` matches no layer that may be pruned. Received: {name}={pattern!r}. "
                        f"Expected names among {list(layers)}, or a regular expression."
                    )

    def __call__(self, width: int, density: float, parts: int = 1) -> int:
        """Return the new width of a layer.

        Args:
            width: int, its current width.
            density: float, its activation density (AE), in [0, 1].
            parts: int, what the new width must be a multiple of; divides `width`. Defaults to 1.

        Raises:
            ValueError: the density is not a number in [0, 1].
        """
        if not isinstance(density, Real) or not 0 <= density <= 1:
            raise ValueError(f"A density must be in [0, 1]. Received: {density}")
        step = lcm(self.round_to, parts)
        wanted = nearest(density * width, step)
        capped = ceil(width * (1 - self.max_shrink) - 1e-9)
        least = max(step, self.min_width, capped)
        return min(width, max(wanted, ceil(least / parts) * parts))


def nearest(value, step):
    """Return the multiple of `step` nearest to `value`, the larger of two."""
    return floor(value / step + 0.5) * step


def next_widths(widths, densities, rule, parts=None):
    """Apply a rule to every layer (lines 21 to 24 of Algorithm 1).

    Args:
        widths: `{layer name: current width}`.
        densities: `{layer name: AE}`; entries beyond `widths` are ignored.
        rule: `WidthRule`.
        parts: `{layer name: what its width must be a multiple of}`; 1 for layers left out.

    Returns:
        `{layer name: new width}`, in the order of `widths`.

    Raises:
        ValueError: a layer's density is missing or not in [0, 1]; the message names the layer.
    """
    result = {}
    for layer, width in widths.items():
        if layer not in densities:
            raise ValueError(f"No density for layer '{layer}'. Received: {sorted(densities)}")
        if not rule.covers(layer):
            result[layer] = width
            continue
        try:
            result[layer] = rule(width, densities[layer], (parts or {}).get(layer, 1))
        except ValueError as e:
            raise ValueError(f"Layer '{layer}': {e}") from e
    return result


def _patterns(name, value):
    """A pattern or several as a tuple, checked; `None` stays."""
    if value is None:
        return None
    try:
        patterns = (value,) if isinstance(value, str | re.Pattern) else tuple(value)
        return tuple(re.compile(p).pattern for p in patterns)
    except (re.error, TypeError) as e:
        raise ValueError(
            f"`{name}` must be layer names or regular expressions. Received: {name}={value!r} ({e})"
        ) from e
