"""The page of a run or several, and its short form for a pull request. Facts first, rendering after."""

import re

import jinja2

from adprune_keras.report import facts, figures, panels, svg
from adprune_keras.report.paper_tables import table_1, table_2
from adprune_keras.report.summary import summary
from adprune_keras.report.table import escape, markdown_table

RUNS = 50  # with figures
_LINES = 60  # of a run's summary in Markdown
_BOTH = "Reductions and training complexity: paper count / deployed count."


def html(shown):
    """Render runs as one page that needs no other file, as a string.

    Args:
        shown: list of `facts.Shown`; each run with a net that trained.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adprune_keras.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    runs = [one.run for one in shown]
    return environment.get_template("page.html").render(
        title=facts.cut(runs[0].name) if len(runs) == 1 else f"{len(runs)} runs compared",
        runs=[_with_figures(one, f"run{n}") for n, one in enumerate(shown[:RUNS], start=1)],
        left_out=len(runs[RUNS:]),
        comparison=facts.comparison(shown) if len(runs) > 1 else None,
        together=list(_together(runs)) if len(runs) > 1 else [],
        both=_BOTH,
        tables=[_table(make(runs), len(runs) > 1) for make in (table_1, table_2)],
    )


def markdown(shown):
    """Render runs as a few lines for a pull request, in Markdown.

    Args:
        shown: as in `html`.
    """
    lines = []
    if len(shown) > 1:
        lines += [
            "## Runs compared",
            "",
            *markdown_table(*facts.comparison(shown)),
            "",
            f"- {_BOTH}",
            "",
        ]
    for one in shown:
        of = facts.of(one)
        lines += [f"## {_mark(of['name'])}: {_mark(of['case'])}", "", _mark(of["lead"]), ""]
        table = summary(one.run.nets).splitlines()
        left = [f"- {len(table) - _LINES:,} more lines are left out here."] if table[_LINES:] else []
        lines += [*table[:_LINES], *left, ""]
        if of["exports"]:
            lines += [*markdown_table(*of["exports"]), ""]
        command = " ".join(of["command"])
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        versions = _mark(", ".join(f"{name} {version}" for name, version in of["versions"]))
        lines += ["<details><summary>To repeat it</summary>", "", f"{fence}sh", command, fence]
        lines += ["", versions, "", "</details>", ""]
    return "\n".join(lines)


def _with_figures(one, name):
    nets = facts.trained(one.run)
    return facts.of(one) | {"id": name, "figures": list(_figures(name, nets, panels.changes(nets)))}


def _figures(name, nets, happened):
    """Yield (svg, title, caption) of each figure that a run has the data for."""
    titles = {
        f"change{n}": f"{n}. Epoch {change['epoch']}: {change['what']}. {facts.cut(change['reason'])}"
        for n, change in enumerate(happened[: panels.CHANGES], start=1)
    }
    measured = any("activation_density" in net["logs"] for net in nets)
    what = "Test accuracy and activation density" if measured else "Test accuracy"
    final, widths = nets[-1]["net"], panels.layers(nets, "widths")
    all_layers = {layer for net in nets for layer in net["widths"]}

    def drawn(figure, kind, label):
        return svg.inline(figure, f"{name}-{kind}", label, titles)

    yield (
        drawn(panels.timeline(nets), "timeline", f"{what} over the epochs, net by net"),
        f"{what} over the epochs.",
        "Numbered lines: the net changed, for the reasons below." if happened else "",
    )
    if widths:
        left = (
            "" if len(all_layers) <= len(widths) else f" The first {len(widths)} of {len(all_layers):,}."
        )
        yield (
            drawn(
                panels.silhouette(nets), "silhouette", f"Width of each layer, net by net, to net{final}"
            ),
            "The width of each layer, net by net." if final else "The width of each layer.",
            f"From the input down{f'; the last net, net{final}, is solid' if final else ''}.{left}",
        )
    if panels.layers(nets, "densities"):
        yield (
            drawn(panels.heat_map(nets), "density", "Activation density of each layer over the epochs"),
            "Activation density of each layer.",
            "The share of activations that are positive, over the training images of an epoch.",
        )
    if all(
        any(c["macs"] for c in (net.get("layer_costs") or {}).values()) for net in (nets[0], nets[-1])
    ):
        before_after = "before and after" if final else "of net0"
        yield (
            drawn(panels.macs(nets), "macs", f"Multiply-accumulates of each layer, {before_after}"),
            f"Multiply-accumulates of each layer, {before_after}.",
            "For one image. The paper counts convolutions that own a width, the deployed count all.",
        )


def _together(runs):
    """Yield (svg, title, caption) of the figures that all runs share."""
    named = [(run.name, facts.trained(run)) for run in runs[:RUNS]]
    repeated = " Colours repeat after six runs." if len(named) > len(figures.COLOURS) else ""
    yield (
        svg.inline(
            panels.trade_off(named), "trade-off", "Test accuracy against OPS reduction of each net"
        ),
        "Test accuracy against OPS reduction.",
        f"Filled: paper count; hollow: deployed count. A line joins the nets of a run.{repeated}",
    )
    yield (
        svg.inline(panels.accuracies(named), "accuracies", "Test accuracy over the epochs of each run"),
        "Test accuracy over the epochs.",
        "Run by run; where it drops, a net was pruned or taken back.",
    )


def _table(table, named):
    """A `tables.Table` as plain texts; without the names of runs where there is one run alone."""
    headings, rows = table.cells()
    first = 0 if named else 1
    cut = [[facts.cut(cell) for cell in row[first:]] for row in rows[: facts.ROWS]]
    return table.title, headings[first:], cut, table.notes, len(rows) - len(cut)


def _mark(text):
    """A text as Markdown that shows it and nothing else."""
    return escape(facts.cut(text))
