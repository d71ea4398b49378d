"""Widths that meet a budget."""

from math import ceil

# Steps of the search for the widths that reach a budget: finer than one channel in any real layer.
_BISECTIONS = 16


def within_budget(widths, wanted, reduction, budget, multiples=None):
    """Go from one net's widths as far towards the wanted ones as a budget allows.

    Each layer gives up the same share of the channels that it would lose.

    Args:
        widths: `{layer name: current width}`.
        wanted: `{layer name: new width}`, none above the current one.
        reduction: function of such widths to the OPS reduction that they give.
        budget: float, the reduction that must not be passed.
        multiples: `{layer name: what a new width is a multiple of}`; 1 for layers left out.

    Returns:
        `(widths, reached)`: new widths, and whether the budget stopped them short of the wanted ones.
    """
    if reduction(wanted) <= budget:
        return wanted, False

    def part_of_the_way(share):
        result = {}
        for layer, width in widths.items():
            step = (multiples or {}).get(layer, 1)
            aim = width - share * (width - wanted[layer])
            result[layer] = min(width, ceil(aim / step - 1e-9) * step)
        return result

    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if reduction(part_of_the_way(middle)) <= budget else (low, middle)
    return part_of_the_way(low), True
