"""What pruning says, in words."""

from adprune_keras.counting.counts import COUNTS
from adprune_keras.prune.schedule import PRUNE, Epochs


def changed(before, after, pending):
    """Return the line for a net that takes the place of another.

    Args:
        before: entry of the net that was, as in `ADPrune.record`.
        after: entry of the net that trains now.
        pending: `state.Pending` that was carried out.
    """
    how = "pruned to" if pending.action == PRUNE else "back at"
    channels = sum(after["widths"].values()), sum(before["widths"].values())
    return (
        f"after epoch {after['start']}: net{before['net']} -> net{after['net']}, {how} "
        f"{channels[0]:,} channels from {channels[1]:,}, because {pending.reason}. {saved(after)}"
    )


def saved(entry):
    """Return what a net saves against net0, in words."""
    if entry["ops_reduction"] is None:
        return "What it saves cannot be counted."
    counts = " / ".join(COUNTS)
    ops, params = (
        " / ".join(f"{entry[what][count]:.2f}x" for count in COUNTS)
        for what in ("ops_reduction", "params_reduction")
    )
    return f"Against net0: {ops} fewer MACs, {params} fewer parameters ({counts} count)."


def why_not_pruned(series, schedule):
    """Return why a run ended without a prune.

    Args:
        series: total AE after each epoch.
        schedule: `Schedule`.
    """
    if len(series) < 2:
        return "No net was pruned: fewer than two epochs were trained."
    if isinstance(schedule, Epochs):
        epochs = list(schedule.prune_at)
        return f"No net was pruned: training ended before an epoch of schedule={epochs}."
    return (
        f"No net was pruned: AE changed by {series[-1] - series[-2]:+.4f} in the last epoch, and "
        f"must change by less than {schedule.rho:g} in each of {schedule.patience} epochs in a row, "
        f"after the first {schedule.min_epochs}. Raise rho, lower patience, or train longer."
    )
