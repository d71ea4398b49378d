"""When to prune (rho) and when to stop pruning (delta): pure functions of a density series.

Section III-A: rho is met when total AE changes by less than 0.001 between consecutive epochs;
delta is read from the slope of AE over the current net's epochs. An "epoch count" below is the
number of epochs finished, so the first epoch's end is 1.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, ClassVar

import numpy as np

from adprune_keras.settings import check, setting

TRAIN, PRUNE, ROLLBACK, KEEP, STOP = "train", "prune", "rollback", "keep", "stop"


@dataclass(frozen=True)
class Saturation:
    """Prune when activation density has saturated (rho); stop when pruning has gone too far (delta).

    Args:
        rho: float, AE counts as saturated when its change from one epoch to the next is below this.
            Defaults to 0.001, the paper's value.
        patience: int, consecutive changes that must be below `rho`. Defaults to 2, the paper's "two or
            more consecutive epochs".
        min_epochs: int, epochs that each net trains before rho is looked at. Defaults to 10: batch
            normalisation holds AE near 0.5 at first, whatever the network learns. On a quarter-width
            VGG-19 (10,000 CIFAR-10 images) the bare criterion is met at epoch 3, with test accuracy at
            25% on its way to 63%.
        max_prunes: int or `None`, prunes after which the net is final. Defaults to `None`.
        rollback: bool, what delta does: `True` (default, the paper's choice of final nets) goes back to
            the net before, with its weights and optimizer, and trains it on; `False` keeps the current
            net.
        final_epochs: int or `None`, epochs that the final net trains; then training stops. No net is
            pruned when fewer are left. `fit(epochs=...)` is the ceiling. Defaults to `None`: to the end
            of `fit`, of which half must be left, as the paper's final cycle is the longest.

    Raises:
        ValueError: a value out of its range, by name.

    Example:
    >>> ADPrune(schedule=Saturation(patience=3, max_prunes=1))
    """

    rho: float = setting(
        1e-3, "Rho: AE is saturated when it changes by less than this in an epoch; the paper's."
    )
    patience: int = setting(
        2, "Rho: epochs in a row that must change by less; the paper's 'two or more'.", least=1
    )
    min_epochs: int = setting(
        10,
        "Epochs a net trains before rho is looked at: batch normalisation holds AE still at first.",
        least=1,
    )
    max_prunes: int | None = setting(
        None, "Prunes after which the net is final. Default: as many as rho finds.", least=0
    )
    rollback: bool = setting(
        True,
        "Where AE rises over a pruned net, go back to the one before, as the paper does; else keep it.",
    )
    final_epochs: int | None = setting(
        None,
        "Epochs of the final net. Default: to the end, and half of all epochs are kept for it.",
        least=1,
    )

    def __post_init__(self) -> None:
        if not (isinstance(self.rho, int | float) and 0 < self.rho < 1):
            raise ValueError(
                "`rho` is a change of AE between two epochs and must be above 0 and below 1. "
                f"Received: rho={self.rho!r}"
            )
        check(self)

    def tail(self, epochs: int) -> int:
        """Return the epochs that must be left after a prune, for the final net's training cycle.

        `final_epochs` where given. Without it half of the run: in the paper the final cycle takes
        55% to 89% of all epochs (210 of 380, 210 of 235).
        """
        return ceil(epochs / 2) if self.final_epochs is None else self.final_epochs

    def earliest(self) -> int:
        """Return the epochs that a net trains at the least before rho can be met."""
        return max(self.min_epochs, self.patience + 1)


@dataclass(frozen=True)
class Epochs:
    """Prune after these epochs (the paper's fixed 25 for CIFAR-100 and TinyImageNet).

    They take the place of both rho and delta. `ADPrune(schedule=[25])` is `Epochs((25,))`.

    Args:
        prune_at: ints in rising order, counted from 1 over the whole `fit`, as Keras prints them.
        final_epochs: as in `Saturation`; but without it one epoch after a prune is enough, as the epochs
            are the user's own choice.
    """

    prune_at: tuple[int, ...] = setting(
        dataclasses.MISSING,
        "Prune after these epochs, e.g. 25,50. Default: when rho and delta say so.",
    )
    final_epochs: int | None = setting(None, "Epochs of the final net. Default: to the end.", least=1)
    rho: ClassVar[float] = Saturation.rho  # a slope of AE below it is flat
    rollback: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for epoch in self.prune_at:
            if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1:
                raise ValueError(
                    f"Epochs to prune at must be ints of at least 1. Received: {epoch!r} in "
                    f"schedule={list(self.prune_at)}"
                )
        if not self.prune_at or list(self.prune_at) != sorted(set(self.prune_at)):
            raise ValueError(
                "Epochs to prune at must be listed in rising order, such as [25] or [100, 170]. "
                f"Received: schedule={list(self.prune_at)}"
            )
        check(self)

    def tail(self, epochs: int) -> int:
        """Return the epochs that must be left after a prune."""
        return 1 if self.final_epochs is None else self.final_epochs


Schedule = Saturation | Epochs


def as_schedule(value: Any) -> Schedule:
    """Return what `ADPrune(schedule=...)` takes as a schedule: `None` is `Saturation()`.

    Raises:
        ValueError: neither a schedule nor epochs.
    """
    if value is None:
        return Saturation()
    if isinstance(value, Saturation | Epochs):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Epochs((value,))
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return Epochs(tuple(value))
    raise ValueError(
        "`schedule` must be a Saturation, or the epochs to prune at, such as [25] or [100, 170]. "
        f"Received: schedule={value!r}"
    )


@dataclass(frozen=True)
class Decision:
    """What to do after an epoch, and the reason in words.

    `action` is one of `TRAIN` (go on), `PRUNE`, `ROLLBACK` (back to the previous net, which is then
    final), `KEEP` (this net is final and trains on) and `STOP` (the final cycle is over).
    """

    action: str
    reason: str = ""


def saturated(series, rho, patience, min_epochs):
    """Rho: True where the last `patience` changes of the series are all below `min_delta`.

    Args:
        series: total AE after each epoch of the current net.
        rho: float, change of AE between two epochs.
        patience: int, consecutive changes that must be below it.
        min_epochs: int, no verdict before the net has trained so long.

    Returns:
        bool. NaN is no plateau.
    """
    if len(series) < max(min_epochs, patience + 1):
        return False
    return bool(np.all(np.abs(np.diff(series[-patience - 1 :])) < rho))


def slope(series):
    """Least-squares slope of a series, per epoch; NaN for fewer than two or non-finite values."""
    values = np.asarray(series, dtype=np.float64)
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return float("nan")
    epochs = np.arange(len(values)) - (len(values) - 1) / 2
    return float(epochs @ values / (epochs @ epochs))


def profile(series, tolerance):
    """Name the profile of a net's AE as the paper does, by its slope (section III-A).

    Args:
        series: total AE after each epoch of the current net.
        tolerance: float, AE per epoch; a smaller slope is flat.

    Returns:
        `"convex"`: AE falls, so there is redundancy to prune. `"flat"`. `"concave"`: AE rises, so the
        net needs more of what it has. `"unknown"`: fewer than two epochs, or NaN.
    """
    value = slope(series)
    if not isfinite(value):
        return "unknown"
    if abs(value) <= tolerance:
        return "flat"
    return "concave" if value > 0 else "convex"


def decide(schedule, series, net, done, epochs, final_since=None):
    """Decide what follows an epoch.

    Args:
        schedule: `Schedule`.
        series: total AE after each epoch of the current net.
        net: int, index of the current net; 0 is the one that `fit` started with.
        done: int, epochs finished since `fit` began, over all nets.
        epochs: int, epochs that `fit` will run at the most.
        final_since: epoch count from which the current net was final, or `None`.

    Returns:
        A `Decision`.
    """
    if final_since is not None:
        cycle = schedule.final_epochs
        if cycle is not None and done - final_since >= cycle and done < epochs:
            return Decision(STOP, f"net{net} has had its {cycle} final epochs")
        return Decision(TRAIN)
    left, tail = epochs - done, schedule.tail(epochs)
    if isinstance(schedule, Epochs):
        if done not in schedule.prune_at:
            return Decision(TRAIN)
        named = f"epoch {done} is in the schedule"
        return Decision(KEEP, _too_late(named, left, tail)) if left < tail else Decision(PRUNE, named)
    if schedule.max_prunes is not None and net >= schedule.max_prunes:
        return Decision(KEEP, f"max_prunes={schedule.max_prunes} is reached")
    if not saturated(series, schedule.rho, schedule.patience, schedule.min_epochs):
        return Decision(TRAIN)
    saturation = (
        f"AE saturated at {series[-1]:.3f} (it changed by less than {schedule.rho:g} in each of "
        f"{schedule.patience} epochs)"
    )
    # Delta judges the last prune, and net0 had none: in its first epochs AE of a net with batch norm
    # rises from where initialisation put it, redundant or not.
    if net > 0 and profile(series, schedule.rho) == "concave":
        rising = f"{saturation}, but rose by {slope(series):.4f} an epoch over net{net}"
        if schedule.rollback:
            return Decision(ROLLBACK, f"{rising}: the last prune went too far")
        return Decision(KEEP, f"{rising}: pruning ends here")
    if left < tail:
        return Decision(KEEP, _too_late(saturation, left, tail))
    return Decision(PRUNE, saturation)


def is_last(schedule, prunes, done, epochs):
    """True where no prune can follow any more, so that the current net is the final one.

    Args:
        schedule: `Schedule`.
        prunes: int, prunes so far.
        done: int, epochs finished, which is where the current net starts.
        epochs: int, epochs of the whole `fit`.
    """
    last_start = epochs - schedule.tail(epochs)
    if isinstance(schedule, Epochs):
        return not any(done < epoch <= last_start for epoch in schedule.prune_at)
    if schedule.max_prunes is not None and prunes >= schedule.max_prunes:
        return True
    return done + schedule.earliest() > last_start


def why_never(schedule, epochs):
    """Say why no epoch of a run of `epochs` can prune, and what to change; `None` if one can."""
    if not is_last(schedule, 0, 0, epochs):
        return None
    tail = schedule.tail(epochs)
    if isinstance(schedule, Epochs):
        return (
            f"schedule={list(schedule.prune_at)} leaves no epoch to prune at: of epochs={epochs}, "
            f"{tail} must be left for the final net. Prune at {epochs - tail} at the latest, "
            "or train longer."
        )
    if schedule.max_prunes == 0:
        return None
    earliest = schedule.earliest()
    needed = earliest + tail if schedule.final_epochs is not None else 2 * earliest
    return (
        f"epochs={epochs} is too few to prune: AE is watched for at least {earliest} epochs "
        f"(min_epochs={schedule.min_epochs}, patience={schedule.patience}), and {tail} must be left "
        f"for the final net. Train for {needed} epochs or more, lower min_epochs, or name the "
        "epochs to prune at."
    )


def _too_late(what, left, tail):
    return f"{what}, but {left} epochs are left and the final net needs {tail}"
