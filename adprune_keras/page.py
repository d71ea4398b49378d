"""The page of a run or several, and its short form for a pull request. Facts first, rendering after."""

import re
import shlex
from dataclasses import dataclass

import jinja2

from adprune_keras import panels, svg, tables
from adprune_keras.accounting import COUNTS
from adprune_keras.plots import COLOURS

RUNS = 50  # with figures
_ROWS = 200  # of a table
_TEXT = 400  # characters of a reason, or of a row of widths
_REPEATED = ("include", "exclude")  # flags given once for each of their values
_NOT_REPEATED = ("overwrite", "resume")


@dataclass(frozen=True)
class Shown:
    """A run with what lies beside its record.

    Attributes:
        run: `run.Run`.
        export: `{format: dict}` as `run.read_export` returns it.
        size: int, bytes of its final.keras, or `None` where it has none.
    """

    run: object
    export: dict
    size: int | None


def html(shown):
    """Render runs as one page that needs no other file, as a string.

    Args:
        shown: list of `Shown`; each run with a net that trained.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adprune_keras"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    runs = [one.run for one in shown]
    return environment.get_template("page.html").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared",
        runs=[_facts(one, f"run{n}") for n, one in enumerate(shown[:RUNS], start=1)],
        left_out=len(runs[RUNS:]),
        comparison=_comparison(shown) if len(runs) > 1 else None,
        together=list(_together(runs)) if len(runs) > 1 else [],
        tables=[_table(make(runs), len(runs) > 1) for make in (tables.table_1, tables.table_2)],
    )


def markdown(shown):
    """Render runs as a few lines for a pull request, in Markdown.

    Args:
        shown: as in `html`.
    """
    lines = []
    if len(shown) > 1:
        headings, rows = _comparison(shown)
        lines += ["## Runs compared", "", *tables.markdown(headings, rows), "", f"- {_BOTH}", ""]
    for one in shown:
        facts = _facts(one, None)
        lines += [f"## {_mark(facts['name'])}: {_mark(facts['case'])}", "", _mark(facts["lead"]), ""]
        lines += [tables.summary(one.run.nets)]
        if facts["exports"]:
            lines += [*tables.markdown(*facts["exports"]), ""]
        line = " ".join(facts["command"])
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
        versions = _mark(", ".join(f"{name} {version}" for name, version in facts["versions"]))
        lines += ["<details><summary>To repeat it</summary>", "", f"{fence}sh", line, fence]
        lines += ["", versions, "", "</details>", ""]
    return "\n".join(lines)


def command(header):
    """Return the command line that repeats a run, word by word, quoted for a shell.

    Args:
        header: dict, the first line of its record.
    """
    words = ["adprune-train"]
    for name, value in header["flags"].items():
        if value is None or name in _NOT_REPEATED:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no{name}")
        elif isinstance(value, list) and name in _REPEATED:
            words += [f"--{name}={one}" for one in value]
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{name}={text}")
    backend = header.get("versions", {}).get("backend")
    before = [f"KERAS_BACKEND={shlex.quote(backend)}"] if backend else []
    return [*before, *map(shlex.quote, words)]


def size(count):
    """Return a number of bytes as a text."""
    return _scaled(count, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), " bytes")


def _scaled(count, units, plain=""):
    for unit, step in units:
        if count >= 0.9995 * step:
            return (
                f"{count / step:.3g} {unit}" if count < 999.5 * step else f"{count / step:,.0f} {unit}"
            )
    return f"{count:,}{plain}"


_BOTH = "Reductions and training complexity: paper count / deployed count."


def _facts(one, name):
    """What the page says of a run; its figures too, `name` before their ids, unless that is `None`."""
    run = one.run
    nets = [net for net in run.nets if net["epochs"]]
    rows = tables.summary_rows(nets)
    header, happened = run.header, panels.changes(nets)
    state, words = _state(run, nets)
    return {
        "id": name,
        "name": run.name,
        "case": tables.case(run),
        "state": state,
        "words": words,
        "lead": _lead(run, nets, happened),
        "cards": _cards(one, nets, rows),
        "changes": [
            change | {"reason": _cut(change["reason"])} for change in happened[: panels.CHANGES]
        ],
        "more_changes": len(happened[panels.CHANGES :]),
        "figures": [] if name is None else list(_figures(name, nets, happened)),
        "layers": _layers(nets),
        "exports": _exports(one.export),
        "problems": [
            (n, _cut(problem)) for n, row in one.export.items() for problem in row["problems"][:9]
        ],
        "command": command(header),
        "versions": list(header.get("versions", {}).items())[:_ROWS],
    }


def _state(run, nets):
    last = nets[-1]
    done = last["start"] + last["epochs"]
    if last["outcome"] == "failed":
        return "failed", _cut(last["reason"]).capitalize()
    if run.result is None:
        return "unfinished", f"Still training, or stopped: {done} epochs so far"
    return "finished", "Trained to its end"


def _lead(run, nets, happened):
    before, after = (sum(net["widths"].values()) for net in (nets[0], nets[-1]))
    epochs = sum(net["epochs"] for net in nets)
    trained = f"Trained for {epochs} epoch{'s' if epochs != 1 else ''}"
    prunes = sum(" pruned to " in change["what"] for change in happened)
    if not prunes:
        return f"{trained} and never pruned: {before:,} channels."
    times = {1: "once", 2: "twice"}.get(prunes, f"{prunes} times")
    return f"{trained}, pruned {times}: from {before:,} channels to {after:,}."


def _cards(one, nets, rows):
    """The headline: title, figures with what they count, and a line below."""
    final, cost = rows[-1], nets[-1].get("cost")
    first = rows[0]["accuracy"]
    pruned = first is not None and len(rows) > 1
    epochs = sum(net["epochs"] for net in nets)
    totals = [
        "" if not (cost and nets[0].get("cost")) else _totals(nets[0]["cost"], cost, what)
        for what in ("macs", "params")
    ]
    accuracy = "n/a" if final["accuracy"] is None else f"{final['accuracy']:.2f}\u00a0%"
    return [
        ("Test accuracy", [(accuracy, "")], f"net0 at its prune: {first:.2f}\u00a0%" if pruned else ""),
        ("OPS reduction", _two(final["ops"], "{:.2f}x"), totals[0]),
        ("Parameters reduction", _two(final["params"], "{:.2f}x"), totals[1]),
        (
            "Training complexity",
            _two(_complexity(nets), "{:.1f}"),
            f"epochs of the dense net (Eq. 4); {epochs} were trained",
        ),
        ("Size on disk", *_sizes(one)),
    ]


def _totals(before, after, what):
    counts = dict.fromkeys(cost["deployed"][what] for cost in (before, after))
    figures = " → ".join(_scaled(count, (("billion", 1e9), ("million", 1e6))) for count in counts)
    return f"{figures} {'MACs' if what == 'macs' else 'parameters'}, deployed"


def _complexity(nets):
    if any(net["ops_reduction"] is None or net["params_reduction"] is None for net in nets):
        return None
    return {count: ops for count, (ops, _) in tables.complexities(nets).items()}


def _sizes(one):
    """The smallest verified file, and the others below."""
    files = sorted(
        (row["bytes"], row["file"])
        for row in one.export.values()
        if row["bytes"] and not row["problems"]
    )
    if one.size is not None:
        files.append((one.size, "final.keras, with its optimizer"))
    if not files:
        return [("n/a", "")], "not saved yet"
    others = "; ".join(f"{_cut(name)}: {size(count)}" for count, name in files[1:4])
    return [(size(files[0][0]), _cut(files[0][1]))], others


def _two(values, form):
    if values is None:
        return [("n/a", "")]
    return [(form.format(values[count]), count) for count in COUNTS]


def _figures(name, nets, happened):
    """Yield (svg, title, caption) of each figure that a run has the data for."""
    titles = {
        f"change{n}": f"{n}. Epoch {change['epoch']}: {change['what']}. {_cut(change['reason'])}"
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


def _layers(nets):
    """Headings and rows of the table of layers: widths of each net, last AE, MACs before and after."""
    shown = panels.distinct(nets)
    both = [shown[0]] if len(shown) == 1 else [shown[0], nets[-1]]
    costs = [net.get("layer_costs") or {} for net in both]
    measured = [net for net in nets if net["densities"]]
    densities = measured[-1]["densities"] if measured else {}
    names = dict.fromkeys(name for cost in reversed(costs) for name, row in cost.items() if row["macs"])
    names |= dict.fromkeys(name for net in shown for name in net["widths"])
    headings = ["layer", *(f"net{net['net']}" for net in shown)]
    headings += ["last AE"] if densities else []
    headings += [f"MACs, net{net['net']}" for net, cost in zip(both, costs, strict=True) if cost]
    rows = [
        [
            _cut(name),
            *(f"{net['widths'][name]:,}" if name in net["widths"] else "" for net in shown),
            *([_last(densities.get(name))] if densities else []),
            *(f"{cost[name]['macs']:,}" if name in cost else "" for cost in costs if cost),
        ]
        for name in list(names)[:_ROWS]
    ]
    return headings, rows, len(names) - len(rows)


def _last(values):
    return "" if not values or values[-1] is None else f"{values[-1]:.3f}"


def _exports(export):
    """Headings and rows of the table of exported files; `None` without any."""
    if not export:
        return None
    columns = (
        ("size", "bytes", size),
        ("MACs", "macs", "{:,}".format),
        ("parameters", "params", "{:,}".format),
        ("accuracy", "accuracy", "{:.2f} %".format),
        ("Keras", "keras_accuracy", "{:.2f} %".format),
        ("difference", "difference", "{:.1e}".format),
        ("same class", "agreement", "{:.2f} %".format),
    )
    rows = [
        [
            *(_cut(name), _cut(row["file"]), "failed" if row["problems"] else "verified"),
            *("n/a" if row.get(key) is None else form(row[key]) for _, key, form in columns),
        ]
        for name, row in export.items()
    ]
    return ["format", "file", "checks", *(heading for heading, _, _ in columns)], rows


def _comparison(shown):
    headings = [
        "run",
        "case",
        "accuracy",
        "OPS reduction",
        "parameters reduction",
        "training complexity",
    ]
    rows = []
    for one in shown[:_ROWS]:
        nets = [net for net in one.run.nets if net["epochs"]]
        last = tables.summary_rows(nets)[-1]
        rows.append(
            [
                *(one.run.name, tables.case(one.run)),
                "n/a" if last["accuracy"] is None else f"{last['accuracy']:.2f} %",
                *(tables.both(last["ops"]), tables.both(last["params"])),
                *(tables.both(_complexity(nets), "{:.1f}"), str(sum(net["epochs"] for net in nets))),
                *(_sizes(one)[0][0][0], _state(one.run, nets)[0]),
            ]
        )
    return [*headings, "epochs", "size", "state"], rows


def _together(runs):
    """Yield (svg, title, caption) of the figures that all runs share."""
    named = [(run.name, [net for net in run.nets if net["epochs"]]) for run in runs[:RUNS]]
    repeated = " Colours repeat after six runs." if len(named) > len(COLOURS) else ""
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
    cut = [[_cut(cell) for cell in row[first:]] for row in rows[:_ROWS]]
    return table.title, headings[first:], cut, table.notes, len(rows) - len(cut)


def _mark(text):
    """A text as Markdown that shows it and nothing else."""
    return tables.escape(_cut(text))


def _cut(text):
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]} …"
