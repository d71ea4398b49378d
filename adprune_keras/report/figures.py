"""The paper's figures from a run's record. Colours that colour-blind readers can tell apart."""

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adprune_keras.counting.counts import COUNTS
from adprune_keras.text import printable

# Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DEPTH = matplotlib.colormaps["cividis"]
POINTS = 600  # of a curve; of a longer one each is the mean of some epochs
_NAMED = 12  # nets in a legend
_MAPS = 9  # panels of a net in Fig. 5, beside the image


def figure_1(nets):
    """Fig. 1: total AE of successive nets, each over its own epochs, rho marked.

    Args:
        nets: list of dicts as in `ADPrune.record`.

    Returns:
        A `matplotlib.figure.Figure`; save it with `savefig`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    trained, named, step = {}, set(), _step(nets)
    for net in nets:
        number, done = net["net"], trained.get(net["net"], 0)
        trained[number] = done + net["epochs"]
        colour = COLOURS[number % len(COLOURS)]
        new = number not in named and len(named) < _NAMED
        label = f"net{number} ({net.get('profile', 'unknown')})" if new else None
        axes.plot(*thin(done, series(net, "activation_density"), step), ".-", color=colour, label=label)
        named.add(number)
        if net["outcome"] == "pruned":
            axes.axvline(trained[number], color=colour, linestyle=":")
    axes.set_xlabel("epoch of the net (dotted: rho, the net was pruned)")
    axes.set_ylabel("total AE")
    axes.legend(frameon=False, fontsize="small")
    return figure


def figure_2(nets):
    """Fig. 2 and 3: test accuracy, total AE, and AE of each layer over the epochs of a run.

    Args:
        nets: list of dicts as in `ADPrune.record`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    measured = any(net["densities"] for net in nets)
    figure = Figure(figsize=(7, 7.5 if measured else 3.5), layout="constrained")
    panels = figure.subplots(3 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    depth = {name: i for net in nets for i, name in enumerate(net["densities"])}
    shades = Normalize(1, max([2, *(1 + i for i in depth.values())]))
    step = _step(nets)
    for n, net in enumerate(nets):
        style = {"color": colour_of(net), "marker": ".", "markersize": 4}
        percent = [100 * v for v in series(net, "val_accuracy")]
        label = _label(net) if n < _NAMED else None
        panels[0].plot(*thin(net["start"], percent, step), label=label, **style)
        if measured:
            panels[1].plot(*thin(net["start"], series(net, "activation_density"), step), **style)
            for name, values in net["densities"].items():
                curve = thin(net["start"], values, step)
                panels[2].plot(*curve, color=_DEPTH(shades(1 + depth[name])), linewidth=1)
        if net["outcome"] in ("pruned", "rolled back"):
            for axes in panels:
                axes.axvline(net["start"] + net["epochs"] + 0.5, color="grey", linestyle=":")
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].legend(frameon=False, fontsize="small")
    panels[-1].set_xlabel("epoch (dotted: pruned)")
    if measured:
        panels[1].set_ylabel("total AE")
        panels[2].set_ylabel("AE of each layer")
        figure.colorbar(ScalarMappable(shades, _DEPTH), ax=panels[2], label="layer, from the input")
    return figure


def figure_4(runs):
    """Fig. 4: test accuracy against OPS and parameters reduction, both ways of counting.

    Args:
        runs: list of (label, list of dicts as in `ADPrune.record`). Nets that were pruned stand with
            their accuracy at the prune, small; final nets large.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key in zip(panels, ("ops_reduction", "params_reduction"), strict=True):
        against(axes, runs, key)
    panels[0].set_ylabel("test accuracy (%)")
    panels[0].legend(frameon=False, fontsize="x-small")
    return figure


def figure_5(maps):
    """Fig. 5: activations of every other ReLU for one image, averaged over channels, net by net.

    Args:
        maps: `{"net0": {name: array (h, w)}}` as `run.read_maps` returns it, the image first; the first
            and the last net are drawn, one row each. A layer's colours start at 0 and end at the
            largest value that either net reaches there.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    nets = list(dict.fromkeys([next(iter(maps)), list(maps)[-1]]))
    names = list(maps[nets[0]])
    relus = names[1::2] if len(names) > _MAPS else names[1:]
    while len(relus) > _MAPS:
        relus = relus[::2]
    figure = Figure(figsize=(1.3 * (1 + len(relus)), 1.6 * len(nets)), layout="constrained")
    rows = figure.subplots(len(nets), 1 + len(relus), squeeze=False)
    for net, row in zip(nets, rows, strict=True):
        for name, axes in zip([names[0], *relus], row, strict=True):
            values = maps[net].get(name)
            axes.set_xticks([])
            axes.set_yticks([])
            if values is not None:
                top = max(float(np.max(maps[n][name])) for n in nets if name in maps[n])
                bottom = 0 if name in relus else None
                axes.imshow(np.asarray(values, "float32"), cmap="viridis", vmin=bottom, vmax=top)
            axes.set_title(plain(name).replace("/", "/\n"), fontsize=6)
        row[0].set_ylabel(plain(net))
    return figure


def colour_of(net):
    """Return the colour of a net, the same in all figures of a run."""
    return COLOURS[net["net"] % len(COLOURS)]


def against(axes, runs, key):
    """Scatter test accuracy over a reduction; pruned nets small, the paper's count filled."""
    largest = 1.0
    for n, (label, nets) in enumerate(runs):
        colour = COLOURS[n % len(COLOURS)]
        nets = [net for net in nets if net["epochs"] and net[key]]
        accuracy = [100 * series(net, "val_accuracy")[-1] for net in nets]
        sizes = [30 if net["outcome"] in ("pruned", "rolled back") else 90 for net in nets]
        for count in COUNTS:
            reduction = [net[key][count] for net in nets]
            largest = max([largest, *reduction])
            axes.scatter(
                *(reduction, accuracy, sizes),
                facecolors=colour if count == "paper" else "none",
                edgecolors=colour,
                marker="o" if count == "paper" else "D",
                label=f"{plain(label)}, {count} count",
            )
        places = [net[key][COUNTS[0]] for net in nets]
        axes.plot(places, accuracy, color=colour, linewidth=0.8)
        few = len(nets) <= 2 * _NAMED
        for net, x, y in zip(nets, places, accuracy, strict=True) if few else ():
            axes.annotate(
                f"net{net['net']}", (x, y), (4, 6), textcoords="offset points", fontsize="x-small"
            )
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.8, 1.5 * largest)
    axes.xaxis.set_major_formatter("{x:g}x")
    name = {"ops_reduction": "OPS reduction", "params_reduction": "parameters reduction"}[key]
    axes.set_xlabel(f"{name} (small: at its prune, large: final)")


def plain(name):
    """Return a name from a file as text: no formula, no control characters, no endless line."""
    text = printable(name).replace("$", r"\$")
    return text if len(text) <= 80 else f"{text[:80]}..."


def _step(nets):
    """How many epochs each point of a run's curves stands for."""
    return -(-sum(net["epochs"] for net in nets) // POINTS)


def _label(net):
    if not net["ops_reduction"]:
        return f"net{net['net']}"
    ops = net["ops_reduction"]
    return f"net{net['net']}: {ops['paper']:.1f}x / {ops['deployed']:.1f}x fewer MACs (paper / deployed)"


def series(net, name):
    """Return a logged series of a net, NaN where an epoch has no value."""
    values = net["logs"].get(name) or [None] * net["epochs"]
    return [float("nan") if v is None else v for v in values]


def thin(start, values, step):
    """Return epochs and values of a curve that begins after epoch `start`, the mean of each `step`."""
    padded = np.full(-(-len(values) // step) * step, np.nan)
    padded[: len(values)] = np.array(values, float)  # None becomes NaN
    parts = padded.reshape(-1, step)
    known = np.isfinite(parts)
    means = np.where(known, parts, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
    return start + 1 + (step - 1) / 2 + step * np.arange(len(parts)), means
