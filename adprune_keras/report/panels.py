"""The figures of the page: one column of a paper wide, a row a layer where they show layers.

What is more than a figure can show is left out: layers after the first `LAYERS`, nets and changes
likewise; of long runs each point is the mean of some epochs.
"""

import numpy as np
from matplotlib.figure import Figure

from adprune_keras.report import figures

LAYERS, NETS, CHANGES = 150, 6, 24
GREY, GRID = "#808080", "#d8d8d8"
_WIDTH, _HEIGHT, _TEXT, _SMALL = 5.0, 3.9, 9, 8.2  # inches; points
_NAMED = 45  # rows that have their name and figures beside them
_CHANGES = {"pruned": "pruned to", "rolled back": "taken back to"}


def timeline(nets):
    """Test accuracy and total AE over the epochs of a run, every change of the net marked and numbered.

    Args:
        nets: list of dicts as in `ADPrune.record`.

    Returns:
        A `matplotlib.figure.Figure`. The marks have the ids `change1`, ... in the order of `changes`.
    """
    measured = any("activation_density" in net["logs"] for net in nets)
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    panels = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    epochs, named = sum(net["epochs"] for net in nets), set()
    for net in nets:
        new = net["net"] not in named and len(named) < NETS
        style = {
            "color": figures.colour_of(net),
            "label": f"net{net['net']}" if new else None,
            "markersize": 2.5,
        }
        style["marker"] = "o" if epochs <= 60 or net["epochs"] == 1 else None
        named.add(net["net"])
        for axes, key, scale in zip(
            panels, ("val_accuracy", "activation_density"), (100, 1), strict=False
        ):
            x, y = figures.thin(net["start"], figures.series(net, key), -(-epochs // figures.POINTS))
            axes.plot(x, scale * y, linewidth=1.4, **style)
    for n, change in enumerate(changes(nets)[:CHANGES], start=1):
        place = change["epoch"] + 0.5
        for axes in panels:
            axes.axvline(place, color=GREY, linestyle=":", linewidth=1, gid=f"change{n}")
            axes.axvline(
                place, color=GREY, alpha=0, linewidth=9, gid=f"change{n}"
            )  # something to point at
        panels[0].annotate(
            *(str(n), (place, 1), (0, 2), panels[0].get_xaxis_transform(), "offset points"),
            **{"ha": "center", "fontsize": _SMALL, "annotation_clip": False},
        )
    for axes, name in zip(panels, ("test accuracy (%)", "total AE"), strict=False):
        _calm(axes)
        axes.set_ylabel(name, fontsize=_TEXT)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.margins(y=0.1)
    _epochs(panels[-1], "epoch")
    figure.align_ylabels()
    return _legend(figure, *panels[0].get_legend_handles_labels())


def changes(nets):
    """List what happened to the nets of a run: `{"epoch", "net", "what", "reason"}` for each change.

    Args:
        nets: list of dicts as in `ADPrune.record`.
    """
    after = [*(f"net{net['net']}" for net in nets[1:]), "the next net"]
    return [
        {
            "epoch": net["start"] + net["epochs"],
            "net": net["net"],
            "what": f"net{net['net']} was {_CHANGES[net['outcome']]} {following}",
            "reason": net["reason"],
        }
        for net, following in zip(nets, after, strict=True)
        if net["outcome"] in _CHANGES
    ]


def silhouette(nets):
    """The width of each layer, net by net, as the outline of the network; the final net is solid.

    Args:
        nets: list of dicts as in `ADPrune.record`.
    """
    shown, names = distinct(nets), layers(nets, "widths")
    figure, axes = _rows(names)
    edges = np.arange(len(names) + 1) - 0.5
    for net in shown:
        half = np.array([net["widths"].get(name, np.nan) for name in names], float) / 2
        final = net["net"] == nets[-1]["net"]
        axes.stairs(
            *(half, edges),
            **{"baseline": -half, "orientation": "horizontal", "fill": True, "linewidth": 0.8},
            **{
                "facecolor": (figures.colour_of(net), 0.95 if final else 0.22),
                "edgecolor": figures.colour_of(net),
            },
            label=f"net{net['net']}",
        )
    _beside(axes, names, lambda name: _arrow([net["widths"].get(name) for net in shown]))
    widest = max([1, *(net["widths"][name] for net in shown for name in names if name in net["widths"])])
    axes.set_xlim(-0.52 * widest, 0.52 * widest)
    axes.xaxis.set_major_formatter(lambda x, _: f"{2 * abs(x):g}")
    axes.set_xlabel("channels, half on either side", fontsize=_TEXT)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    return _legend(figure, *axes.get_legend_handles_labels())


def heat_map(nets):
    """The AE of each layer over the epochs of a run.

    Args:
        nets: list of dicts as in `ADPrune.record`, AE measured in one of them.
    """
    names, total = layers(nets, "densities"), max(net["start"] + net["epochs"] for net in nets)
    columns = min(total, figures.POINTS)
    sums, counts = np.zeros((2, len(names), columns))
    for net in nets:
        place = (net["start"] + np.arange(net["epochs"])) * columns // total
        for row, name in enumerate(names):
            if name in net["densities"]:
                values = np.array(net["densities"][name], float)
                known = np.isfinite(values)
                sums[row] += np.bincount(place[known], values[known], columns)
                counts[row] += np.bincount(place[known], minlength=columns)
    figure, axes = _rows(names)
    mean = np.ma.masked_array(sums, counts == 0) / np.maximum(counts, 1)
    extent = (0.5, total + 0.5, len(names) - 0.5, -0.5)
    image = axes.imshow(mean, cmap="viridis", aspect="auto", interpolation="none", extent=extent)
    for change in changes(nets)[:CHANGES]:
        axes.axvline(change["epoch"] + 0.5, color="white", linewidth=1.2)
    axes.spines[:].set_visible(False)
    _epochs(axes, "epoch (line: the net changed)")
    bar = figure.colorbar(image, ax=axes, location="top", aspect=45, pad=0.02)
    bar.solids.set_rasterized(True)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_SMALL, color=GREY, length=2.5)
    bar.set_label("AE of the layer", fontsize=_TEXT)
    return figure


def macs(nets):
    """The MACs of each layer, before and after; those that only the deployed count has are starred.

    Args:
        nets: list of dicts as in `ADPrune.record`, the first and the last with `layer_costs`.
    """
    first, last = nets[0], nets[-1]
    shown = [first] if first["net"] == last["net"] else [first, last]
    names = layers([last, first], "layer_costs", lambda cost: cost["macs"])  # the last has projections
    costs = [[net["layer_costs"].get(name) for name in names] for net in shown]
    figure, axes = _rows(names)
    counted = [any(cost and cost["owns_width"] for cost in of) for of in zip(*costs, strict=True)]
    marked = [_short(name) + ("" if paper else " *") for name, paper in zip(names, counted, strict=True)]
    axes.set_yticks(axes.get_yticks(), [marked[int(i)] for i in axes.get_yticks()])
    for net, row in zip(shown, costs, strict=True):
        before = net is not last
        axes.barh(
            *(range(len(names)), [cost["macs"] / 1e6 if cost else 0 for cost in row]),
            height=0.84 if before else 0.46,
            color=(figures.colour_of(net), 0.3 if before else 0.95),
            label=f"net{net['net']}",
        )
    ratio = {
        name: f"{of[0]['macs'] / of[-1]['macs']:.1f}x"
        for name, of in zip(names, zip(*costs, strict=True), strict=True)
        if len(of) == 2 and all(cost and cost["macs"] for cost in of)
    }
    _beside(axes, names, lambda name: ratio.get(name, ""))
    axes.set_xlabel("million MACs (*: in the deployed count only)", fontsize=_TEXT)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    return _legend(figure, *axes.get_legend_handles_labels())


def trade_off(runs):
    """Test accuracy against OPS reduction, both ways of counting: the first half of Fig. 4.

    Args:
        runs: list of (label, list of dicts as in `ADPrune.record`).
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    figures.against(axes, runs, "ops_reduction")
    _calm(axes)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_ylabel("test accuracy (%)", fontsize=_TEXT)
    axes.xaxis.label.set_fontsize(_TEXT)
    return _legend(figure, axes.lines, [_short(name) for name, _ in runs], columns=2)


def accuracies(runs):
    """Test accuracy over the epochs of several runs; arguments as in `trade_off`."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    longest = max(net["start"] + net["epochs"] for _, nets in runs for net in nets)
    for n, (_, nets) in enumerate(runs):
        parts = [
            figures.thin(
                net["start"], figures.series(net, "val_accuracy"), -(-longest // figures.POINTS)
            )
            for net in nets
        ]
        x, y = np.concatenate(parts, axis=1)
        axes.plot(x, 100 * y, linewidth=1.4, color=figures.COLOURS[n % len(figures.COLOURS)])
    _calm(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_ylabel("test accuracy (%)", fontsize=_TEXT)
    _epochs(axes, "epoch")
    return _legend(figure, axes.lines, [_short(name) for name, _ in runs], columns=2)


def layers(nets, key, fits=bool):
    """Return the names of the layers that a field of any net holds, at most `LAYERS` of them."""
    names = dict.fromkeys(
        name for net in nets for name, value in (net.get(key) or {}).items() if fits(value)
    )
    return list(names)[:LAYERS]


def distinct(nets):
    """Return each net's last entry in the order of their numbers, at most `NETS`, spread over all."""
    last = {net["net"]: net for net in nets}
    numbers = sorted(last)
    places = np.unique(np.linspace(0, len(numbers) - 1, min(NETS, len(numbers))).round().astype(int))
    chosen = {numbers[i] for i in places} | {nets[-1]["net"]}
    return [last[number] for number in sorted(chosen)]


def _rows(names):
    """A figure with a row for each layer, the input on top."""
    figure = Figure(
        figsize=(_WIDTH, min(max(1.1 + 0.19 * len(names), _HEIGHT), 8)), layout="constrained"
    )
    axes = figure.subplots()
    step = -(-len(names) // _NAMED)
    axes.set_yticks(range(0, len(names), step), [_short(name) for name in names[::step]])
    axes.set_ylim(len(names) - 0.5, -0.5)
    _calm(axes)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _beside(axes, names, text):
    """Put a text to the right of each row, where there is room for all."""
    for i, name in enumerate(names if len(names) <= _NAMED else ()):
        place = axes.get_yaxis_transform()
        axes.text(1.015, i, text(name), fontsize=_SMALL - 0.5, va="center", transform=place)


def _calm(axes):
    """Take away what is not needed to read a pair of axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(GREY)
    axes.tick_params(labelsize=_SMALL, color=GREY, length=2.5)
    axes.set_axisbelow(True)


def _epochs(axes, label):
    axes.set_xlabel(label, fontsize=_TEXT)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _legend(figure, handles, labels, columns=NETS + 1):
    """Say above the axes what is what, where that is more than one thing and there is room."""
    if 1 < len(labels) <= NETS + 1:
        style = {"frameon": False, "fontsize": _SMALL, "handlelength": 1.2}
        figure.legend(
            handles, labels, loc="outside upper right", ncols=min(columns, len(labels)), **style
        )
    return figure


def _arrow(widths):
    known = [width for width in widths if width is not None]
    return f"{known[0]} → {known[-1]}" if len(known) > 1 else "".join(map(str, known))


def _short(name):
    return figures.plain(name if len(name) <= 23 else f"{name[:14]}…{name[-8:]}")
