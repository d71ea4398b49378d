"""The state of a run beside its weights: kept as plain data, restored by doing its prunes again."""

import itertools
from dataclasses import asdict, dataclass, field

from adprune_keras.record.entry import NetEntry


@dataclass(frozen=True)
class Step:
    """What follows an epoch. A prune or a rollback is carried out when the next epoch begins.

    Attributes:
        action: str, as in `schedule.Decision`.
        reason: str.
        widths: `{layer name: new width}` of a prune.
        kept_channels: `{layer name: sorted list of indices}` of a prune that inherits weights.
        reached: bool, whether this prune reaches the target.
    """

    action: str
    reason: str = ""
    widths: dict[str, int] | None = None
    kept_channels: dict[str, list[int]] | None = None
    reached: bool = False


@dataclass
class Progress:
    """How far a `fit` is.

    Attributes:
        record: list of `NetEntry`, as in `ADPrune.record`.
        net: int, index of the current net.
        first_epoch: int, Keras' number of the first epoch, or `None` before it begins.
        epochs: int, epochs that `fit` will run at the most.
        final_since: epoch count from which the current net was final, or `None`.
        asked: the widths that each prune was asked for, in turn; `None` for a rollback.
        pending: `Step` that is carried out when the next epoch begins, or `None`.
    """

    record: list[NetEntry] = field(default_factory=list)
    net: int = 0
    first_epoch: int | None = None
    epochs: int = 0
    final_since: int | None = None
    asked: list[dict[str, int] | None] = field(default_factory=list)
    pending: Step | None = None

    def kept_channels(self, net):
        """Return the `kept_channels` of the net of an index."""
        return next(entry["kept_channels"] for entry in self.record if entry["net"] == net)


def get_state(progress):
    """Return a `Progress` as plain data; `record` is the one that goes on growing."""
    return {**vars(progress), "pending": progress.pending and asdict(progress.pending)}


def set_state(state, nets, weights):
    """Give a model, as net0, the structure that it had when `get_state` was called.

    Every prune is done again in turn, with the channels that it kept.

    Args:
        state: what `get_state` returned.
        nets: `Nets` of the model.
        weights: as in `ADPrune`.

    Returns:
        The `Progress`.

    Raises:
        KeyError, TypeError, ValueError: not what `get_state` returns; the model is as it was.
    """
    pending = state["pending"]
    progress = Progress(**{**state, "pending": None if pending is None else Step(**pending)})
    _check(progress, weights)
    steps = zip(progress.asked, itertools.pairwise(progress.record), strict=True)
    for widths, (before, after) in steps:
        if widths is None:
            nets.go_back()
        else:
            nets.shrink(widths, after["kept_channels"], before["net"])
    if progress.final_since is not None:
        nets.forget()
    return progress


def _check(progress, weights):
    """Refuse prunes that cannot be done again, before the first of them is."""
    record, asked = progress.record, progress.asked
    if len(asked) != len(record) - 1:
        raise ValueError(f"{len(record)} nets and {len(asked)} changes from one to the next")
    changes = list(zip(record, asked, [entry["kept_channels"] for entry in record[1:]], strict=False))
    if progress.pending is not None:
        changes.append((record[-1], progress.pending.widths, progress.pending.kept_channels))
    for before, widths, kept in changes:
        if widths is None or weights == "random":
            continue
        net = f"net{before['net'] + 1}"
        if not isinstance(kept, dict):
            raise ValueError(f"{net} without its kept channels")
        for name, width in widths.items():
            if not _are_channels(kept.get(name), before["widths"].get(name, 0)):
                raise ValueError(f"{net} with channels of layer '{name}' that the net before lacks")
            if len(kept[name]) != width:
                raise ValueError(f"{net} with {len(kept[name])} channels of layer '{name}', not {width}")


def _are_channels(value, width):
    """Whether a value is a rising list of channels of a layer of this width."""
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < width for n in value):
        return False
    return all(a < b for a, b in itertools.pairwise(value))
