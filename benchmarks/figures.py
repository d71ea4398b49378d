"""Draws the figures of docs/decisions.md from the records in docs/results and docs/series.

python benchmarks/figures.py
"""

import json
import pathlib

from criteria import FOLDER, SETTINGS, picks, read
from matplotlib.figure import Figure

from adprune_keras.record.directory import save_figure
from adprune_keras.report import figures

DOCS = FOLDER.parent
BLUE, ORANGE, GREEN = figures.COLOURS[:3]
GREY = "#999999"


def rho():
    """Total AE and test accuracy of a dense net, and where two settings of rho are met."""
    series = read(FOLDER / "resnet18_quarter_0.csv")
    density, accuracy = series["activation_density"], [100 * v for v in series["val_accuracy"]]
    epochs = range(1, len(density) + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(epochs, density, ".-", color=BLUE)
    below.plot(epochs, accuracy, ".-", color=BLUE)
    for name, colour in (("bare", ORANGE), ("default", "black")):
        at = picks(density, **SETTINGS[name])
        for axes in (above, below):
            axes.axvline(at, color=colour, linestyle=":")
        text = f" {name}: epoch {at}, {accuracy[at - 1]:.0f} %"
        below.text(at, accuracy[0], text, color=colour, fontsize="small")
    above.set_ylabel("total AE")
    below.set_ylabel("test accuracy (%)")
    below.set_xlabel("epoch")
    below.set_xticks([1, *range(5, len(density) + 1, 5)])
    return figure


def nets(name):
    """Return the nets of a small run, as `ADPrune.record` holds them."""
    lines = (DOCS / "results" / "small" / f"{name}.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "net"]


def delta():
    """Total AE and test accuracy of a run whose second prune went too far."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    colours = (BLUE, ORANGE, GREEN)
    for net in nets("digits_rollback"):
        epochs = range(net["start"] + 1, net["start"] + net["epochs"] + 1)
        look = {"color": colours[net["net"]], "marker": "."}
        accuracy = [100 * value for value in net["logs"]["val_accuracy"]]
        above.plot(epochs, net["logs"]["activation_density"], **look)
        below.plot(epochs, accuracy, **look)
        paper, deployed = (net["ops_reduction"][count] for count in ("paper", "deployed"))
        text = f"net{net['net']}\n{paper:.1f}x / {deployed:.1f}x"
        below.text(epochs[0], 2, text, color=look["color"], fontsize="x-small")
        if net["outcome"] != "final":
            for axes in (above, below):
                axes.axvline(epochs[-1] + 0.5, color=GREY, linestyle=":")
    above.set_ylabel("total AE")
    below.set_ylabel("test accuracy (%)")
    below.set_ylim(0, 100)
    below.set_xlabel("epoch (OPS reduction: paper / deployed count)")
    return figure


def widths():
    """Widths before and after a prune, layer by layer, with the densities that decided them."""
    before, after = nets("cifar10_resnet18")
    names = list(before["widths"])
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for net, look in ((before, {"color": GREY, "alpha": 0.5}), (after, {"color": BLUE})):
        axes.bar(range(len(names)), net["widths"].values(), label=f"net{net['net']}", **look)
    for place, name in enumerate(names):
        share = before["densities"][name][-1]
        axes.text(place, before["widths"][name] + 2, f"{share:.2f}", ha="center", fontsize="x-small")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="x-small")
    axes.set_ylabel("channels (above: AE of the layer)")
    axes.legend(frameon=False, loc="upper left")
    return figure


if __name__ == "__main__":
    folder = pathlib.Path(DOCS / "figures")
    folder.mkdir(exist_ok=True)
    for draw in (rho, widths, delta):
        save_figure(folder, f"{draw.__name__}.png", draw())
