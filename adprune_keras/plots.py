"""Figures of a run's record."""

from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def density_figure(nets):
    """Draw total AE and test accuracy over the epochs of a run, net by net (Fig. 1 of the paper).

    Args:
        nets: list of dicts as in `ADPrune.record`.

    Returns:
        A `matplotlib.figure.Figure`; save it with `savefig`.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for net in nets:
        epochs = range(net["start"] + 1, net["start"] + net["epochs"] + 1)
        style = {"color": _COLOURS[net["net"] % len(_COLOURS)], "marker": ".", "markersize": 4}
        label = f"net{net['net']}"
        if net["ops_reduction"]:
            ops = net["ops_reduction"]
            label += f": {ops['paper']:.1f}x / {ops['deployed']:.1f}x fewer MACs (paper / deployed)"
        above.plot(epochs, _series(net, "activation_density"), label=label, **style)
        below.plot(epochs, [100 * v for v in _series(net, "val_accuracy")], **style)
        if net["outcome"] in ("pruned", "rolled back"):
            for axes in (above, below):
                axes.axvline(net["start"] + net["epochs"] + 0.5, color="grey", linestyle=":")
    above.set_ylabel("total AE")
    below.set_ylabel("test accuracy (%)")
    below.set_xlabel("epoch (dotted: pruned)")
    above.legend(frameon=False, fontsize="small")
    return figure


def _series(net, name):
    """A logged series, NaN where an epoch has no value."""
    values = net["logs"].get(name) or [None] * net["epochs"]
    return [float("nan") if v is None else v for v in values]
