"""The entry of one net in a record."""

from adprune_keras.counting.counts import COUNTS, reduction


def add_epoch(net, logs, densities=None):
    """Add an epoch to the entry of the net that trained it; what an epoch did not measure is `None`.

    Args:
        net: dict, an entry of `ADPrune.record`.
        logs: `{name: number}` of the epoch.
        densities: `{layer name: AE}` of the epoch, where they were measured.
    """
    for key, values in (("logs", logs), ("densities", densities or {})):
        for name in [name for name in values if name not in net[key]]:
            net[key][name] = [None] * net["epochs"]
        for name, series in net[key].items():
            series.append(None if values.get(name) is None else float(values[name]))
    net["epochs"] += 1


def net_entry(net):
    """Return an entry of `ADPrune.record` as a record holds it: ended, or `start` while it trains."""
    return {"kind": "start" if net["outcome"] == "training" else "net", **net}


def epoch_entry(net):
    """Return the last epoch of an entry of `ADPrune.record` as a record holds it."""
    last = {key: {name: s[-1] for name, s in net[key].items()} for key in ("logs", "densities")}
    return {"kind": "epoch", "start": net["start"], **last}


def open_entry(widths, net, start, baseline, counted):
    """Return the record of a net that is about to train, as plain data; see `ADPrune.record`.

    Args:
        widths: `{layer name: width}` of the net.
        net: int, its index.
        start: int, epochs finished before it.
        baseline: net0's `Cost`.
        counted: the net's own, or `None` where it cannot be counted.
    """
    return {
        "net": net,
        "start": start,
        "epochs": 0,
        "widths": widths,
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


def costs(baseline, counted):
    """A net's totals and reductions, both ways of counting; `None` where nothing is counted."""
    if counted is None:
        return dict.fromkeys(("cost", "ops_reduction", "params_reduction"))
    return {
        "cost": {c: vars(getattr(counted, c)) for c in COUNTS},
        "ops_reduction": {c: reduction(baseline, counted, c, "macs") for c in COUNTS},
        "params_reduction": {c: reduction(baseline, counted, c, "params") for c in COUNTS},
    }
