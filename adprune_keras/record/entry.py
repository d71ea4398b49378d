"""The entry of one net in a record."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from adprune_keras.counting.counts import Cost, Total, reduction

Outcome = Literal["training", "pruned", "rolled back", "final", "failed"]
Profile = Literal["convex", "flat", "concave", "unknown"]
Series = dict[str, list[float | None]]


class TotalCost(TypedDict):
    """MACs and parameters of a net in one way of counting."""

    macs: int
    params: int


class BothTotals(TypedDict):
    """The totals of a net, both ways of counting."""

    paper: TotalCost
    deployed: TotalCost


class BothReductions(TypedDict):
    """A figure of net0 over that of a net, both ways of counting."""

    paper: float
    deployed: float


class NetCosts(TypedDict):
    """What a net costs, and its reductions against net0; `None` where nothing can be counted."""

    cost: BothTotals | None
    ops_reduction: BothReductions | None
    params_reduction: BothReductions | None


class NetEntry(NetCosts):
    """One stretch of epochs that a net trained, as plain data; see `ADPrune.record`."""

    kind: NotRequired[str]  # in a file: "start" or "net"
    net: int
    start: int
    epochs: int
    widths: dict[str, int]
    kept_channels: dict[str, list[int]] | None
    logs: Series
    densities: Series
    channel_densities: dict[str, list[float]]
    layer_costs: dict[str, dict[str, int | bool]] | None
    profile: Profile
    outcome: Outcome
    reason: str
    rebuild_seconds: float | None
    retrace_seconds: float | None


class EpochEntry(TypedDict):
    """One epoch, as a line of a record file."""

    kind: Literal["epoch"]
    start: int
    logs: dict[str, float | None]
    densities: dict[str, float | None]


def add_epoch(
    net: NetEntry, logs: Mapping[str, Any], densities: Mapping[str, float] | None = None
) -> None:
    """Add an epoch to the entry of the net that trained it; what an epoch did not measure is `None`.

    Args:
        net: an entry of `ADPrune.record`.
        logs: `{name: number}` of the epoch.
        densities: `{layer name: AE}` of the epoch, where they were measured.
    """
    _add(net["logs"], logs, net["epochs"])
    _add(net["densities"], densities or {}, net["epochs"])
    net["epochs"] += 1


def _add(series: Series, values: Mapping[str, Any], epochs: int) -> None:
    """Add one value to each series; a series that is new has `None` for the epochs before."""
    for name in values:
        series.setdefault(name, [None] * epochs)
    for name, found in series.items():
        found.append(None if values.get(name) is None else float(values[name]))


def net_entry(net: NetEntry) -> NetEntry:
    """Return an entry of `ADPrune.record` as a record holds it: ended, or `start` while it trains."""
    return {"kind": "start" if net["outcome"] == "training" else "net", **net}


def epoch_entry(net: NetEntry) -> EpochEntry:
    """Return the last epoch of an entry of `ADPrune.record` as a record holds it."""
    return {
        "kind": "epoch",
        "start": net["start"],
        "logs": {name: series[-1] for name, series in net["logs"].items()},
        "densities": {name: series[-1] for name, series in net["densities"].items()},
    }


def open_entry(
    widths: dict[str, int],
    net: int,
    start: int,
    baseline: Cost | None,
    counted: Cost | None,
    kept: dict[str, list[int]] | None = None,
) -> NetEntry:
    """Return the record of a net that is about to train, as plain data; see `ADPrune.record`.

    Args:
        widths: `{layer name: width}` of the net.
        net: int, its index.
        start: int, epochs finished before it.
        baseline: net0's `Cost`.
        counted: the net's own, or `None` where it cannot be counted.
        kept: `{layer name: sorted indices}` of the channels that it kept of the net before, or `None`.
    """
    return {
        "net": net,
        "start": start,
        "epochs": 0,
        "widths": widths,
        "kept_channels": kept,
        **costs(baseline, counted),
        "logs": {},
        "densities": {},
        "channel_densities": {},
        "layer_costs": None if counted is None else counted.by_layer(),
        "profile": "unknown",
        "outcome": "training",
        "reason": "",
        "rebuild_seconds": None,
        "retrace_seconds": None,
    }


def costs(baseline: Cost | None, counted: Cost | None) -> NetCosts:
    """A net's totals and reductions, both ways of counting; `None` where nothing is counted."""
    if baseline is None or counted is None:
        return {"cost": None, "ops_reduction": None, "params_reduction": None}
    return {
        "cost": {"paper": _total(counted.paper), "deployed": _total(counted.deployed)},
        "ops_reduction": _reductions(baseline, counted, "macs"),
        "params_reduction": _reductions(baseline, counted, "params"),
    }


def _total(total: Total) -> TotalCost:
    return {"macs": total.macs, "params": total.params}


def _reductions(baseline: Cost, counted: Cost, what: Literal["macs", "params"]) -> BothReductions:
    return {
        "paper": reduction(baseline, counted, "paper", what),
        "deployed": reduction(baseline, counted, "deployed", what),
    }
