"""How much a pruned network saves: the paper's metrics, by both ways of counting."""

from collections.abc import Iterable

import keras

from adprune_keras.counting.count import cost
from adprune_keras.counting.counts import Cost, Count, reduction


def ops_reduction(
    baseline: keras.Model | Cost, pruned: keras.Model | Cost, count: Count = "paper"
) -> float:
    """OPS reduction, Eq. 3: MACs of the baseline over MACs of the pruned network.

    Args:
        baseline: a `keras.Model` or its `Cost`.
        pruned: a `keras.Model` or its `Cost`.
        count: `"paper"` or `"deployed"`; see `adprune_keras.counting.counts`. Defaults to `"paper"`.

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
    for saved, epochs in nets:
        if not (saved > 0 and epochs >= 0):
            raise ValueError(
                "Each net must be (reduction > 0, epochs >= 0). "
                f"Received: ({saved}, {epochs}) in nets={nets}"
            )
    return float(sum(epochs / saved for saved, epochs in nets))


def _reduction(baseline, pruned, count, what):
    before, after = (c if isinstance(c, Cost) else cost(c) for c in (baseline, pruned))
    return reduction(before, after, count, what)
