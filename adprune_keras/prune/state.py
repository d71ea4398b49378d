"""What a callback knows beside its model's weights, as plain data, for a `fit` that goes on."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Pending:
    """What was decided at the end of an epoch, to be done when the next one begins.

    Attributes:
        action: str, `schedule.PRUNE` or `ROLLBACK`.
        reason: str.
        widths: `{layer name: new width}`, or `None` for a rollback.
        kept_channels: `{layer name: sorted list of indices}`, or `None` where none are inherited.
        reached: bool, whether this prune reaches the target.
    """

    action: str
    reason: str
    widths: dict | None
    kept_channels: dict | None
    reached: bool


def check_steps(record, asked, weights):
    """Refuse prunes that cannot be done again, before the first of them is.

    Args:
        record: list of entries, as in `ADPrune.record`.
        asked: list of the widths that each prune was asked for, `None` for a rollback.
        weights: as in `ADPrune`.

    Raises:
        ValueError: the message completes a sentence.
    """
    if len(asked) != len(record) - 1:
        raise ValueError(f"{len(record)} nets, and {len(asked)} changes from one to the next")
    for (before, after), widths in zip(itertools.pairwise(record), asked, strict=True):
        if before["outcome"] == "rolled back" or weights == "random":
            continue
        kept, net = after["kept_channels"], f"net{after['net']}"
        if not isinstance(kept, dict):
            raise ValueError(f"{net} without its kept channels")
        for name, width in widths.items():
            stays = kept.get(name)
            if not _are_channels(stays, before["widths"].get(name, 0)):
                raise ValueError(f"{net} with channels of layer '{name}' that the net before lacks")
            if len(stays) != width:
                raise ValueError(f"{net} with {len(stays)} channels of layer '{name}', not {width}")


def _are_channels(value, width):
    """Whether a value is a rising list of channels of a layer of this width."""
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < width for n in value):
        return False
    return all(a < b for a, b in itertools.pairwise(value))
