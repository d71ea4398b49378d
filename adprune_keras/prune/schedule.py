"""When to prune (rho) and when to stop pruning (delta): pure functions of a density series.

Section III-A: rho is met when total AE changes by less than 0.001 between consecutive epochs;
delta is read from the slope of AE over the current net's epochs. An "epoch count" below is the
number of epochs finished, so the first epoch's end is 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np

TRAIN, PRUNE, ROLLBACK, KEEP, STOP = "train", "prune", "rollback", "keep", "stop"


@dataclass(frozen=True)
class Schedule:
    """The criteria, checked where they enter; `ADPrune` documents each.

    Raises:
        ValueError: a value out of its range, by name.
    """

    min_delta: float = 1e-3
    patience: int = 2
    min_epochs: int = 10
    prune_at: int | Iterable[int] | None = None
    max_prunes: int | None = None
    final_epochs: int | None = None
    rollback: bool = True

    def __post_init__(self):
        if not (isinstance(self.min_delta, int | float) and 0 < self.min_delta < 1):
            raise ValueError(
                "`min_delta` is a change of AE between two epochs and must be above 0 and below 1. "
                f"Received: min_delta={self.min_delta!r}"
            )
        for name, least in (("patience", 1), ("min_epochs", 1)):
            _check_int(name, getattr(self, name), least)
        for name, least in (("max_prunes", 0), ("final_epochs", 1)):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), least)
        if self.prune_at is not None:
            epochs = tuple(self.prune_at) if not isinstance(self.prune_at, int) else (self.prune_at,)
            for epoch in epochs:
                _check_int("prune_at", epoch, 1)
            if not epochs or list(epochs) != sorted(set(epochs)):
                raise ValueError(
                    "`prune_at` must list epoch counts in rising order, such as [25] or [100, 170]. "
                    f"Received: prune_at={self.prune_at!r}"
                )
            object.__setattr__(self, "prune_at", epochs)

    def tail(self, epochs):
        """Epochs that must be left after a prune, for the final net's training cycle.

        `final_epochs` where given. Without it half of the run: in the paper the final cycle takes
        55% to 89% of all epochs (210 of 380, 210 of 235). Epochs named by `prune_at` are the
        user's own choice and need just one epoch after them.
        """
        if self.final_epochs is not None:
            return self.final_epochs
        return 1 if self.prune_at else ceil(epochs / 2)

    def earliest(self):
        """Epochs that a net trains at the least before rho can be met."""
        return max(self.min_epochs, self.patience + 1)


@dataclass(frozen=True)
class Decision:
    """What to do after an epoch, and the reason in words.

    `action` is one of `TRAIN` (go on), `PRUNE`, `ROLLBACK` (back to the previous net, which is then
    final), `KEEP` (this net is final and trains on) and `STOP` (the final cycle is over).
    """

    action: str
    reason: str = ""


def saturated(series, min_delta, patience, min_epochs):
    """Rho: True where the last `patience` changes of the series are all below `min_delta`.

    Args:
        series: total AE after each epoch of the current net.
        min_delta: float, change of AE between two epochs.
        patience: int, consecutive changes that must be below it.
        min_epochs: int, no verdict before the net has trained so long.

    Returns:
        bool. NaN is no plateau.
    """
    if len(series) < max(min_epochs, patience + 1):
        return False
    return bool(np.all(np.abs(np.diff(series[-patience - 1 :])) < min_delta))


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
    if schedule.max_prunes is not None and net >= schedule.max_prunes:
        return Decision(KEEP, f"max_prunes={schedule.max_prunes} is reached")
    left, tail = epochs - done, schedule.tail(epochs)
    if schedule.prune_at:
        if done not in schedule.prune_at:
            return Decision(TRAIN)
        if left < tail:
            return Decision(KEEP, _too_late(f"prune_at names epoch {done}", left, tail))
        return Decision(PRUNE, f"prune_at names epoch {done}")
    if not saturated(series, schedule.min_delta, schedule.patience, schedule.min_epochs):
        return Decision(TRAIN)
    saturation = (
        f"AE saturated at {series[-1]:.3f} (it changed by less than {schedule.min_delta:g} in each of "
        f"{schedule.patience} epochs)"
    )
    # Delta judges the last prune, and net0 had none: in its first epochs AE of a net with batch norm
    # rises from where initialisation put it, redundant or not.
    if net > 0 and profile(series, schedule.min_delta) == "concave":
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
    if schedule.max_prunes is not None and prunes >= schedule.max_prunes:
        return True
    last_start = epochs - schedule.tail(epochs)
    if schedule.prune_at:
        return not any(done < epoch <= last_start for epoch in schedule.prune_at)
    return done + schedule.earliest() > last_start


def why_never(schedule, epochs):
    """Say why no epoch of a run of `epochs` can prune, and what to change; `None` if one can."""
    if schedule.max_prunes == 0 or not is_last(schedule, 0, 0, epochs):
        return None
    tail = schedule.tail(epochs)
    if schedule.prune_at:
        return (
            f"prune_at={list(schedule.prune_at)} leaves no epoch to prune at: of epochs={epochs}, "
            f"{tail} must be left for the final net. Prune at {epochs - tail} at the latest, "
            "or train longer."
        )
    earliest = schedule.earliest()
    needed = earliest + tail if schedule.final_epochs is not None else 2 * earliest
    return (
        f"epochs={epochs} is too few to prune: AE is watched for at least {earliest} epochs "
        f"(min_epochs={schedule.min_epochs}, patience={schedule.patience}), and {tail} must be left "
        f"for the final net. Train for {needed} epochs or more, lower min_epochs, or name the "
        "epoch with prune_at."
    )


def _too_late(what, left, tail):
    return f"{what}, but {left} epochs are left and the final net needs {tail}"


def _check_int(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an int of at least {least}. Received: {name}={value!r}")
