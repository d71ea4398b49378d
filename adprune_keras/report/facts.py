"""What is said of a run, as plain texts: the headline, the tables, the command to repeat it."""

import shlex
from dataclasses import dataclass

from adprune_keras.counting.counts import COUNTS
from adprune_keras.report import panels
from adprune_keras.report.paper_tables import case
from adprune_keras.report.summary import complexities, summary_rows
from adprune_keras.report.table import both
from adprune_keras.text import printable

ROWS = 200  # of a table
_TEXT = 400  # characters of a reason, or of a row of widths
_COMMAND = 20_000  # characters
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


def of(one):
    """Return what the page says of a run beside its figures, as a dict.

    Args:
        one: `Shown`.
    """
    run = one.run
    nets = trained(run)
    happened = panels.changes(nets)
    kind, words = state(run)
    problems = [(name, problem) for name, row in one.export.items() for problem in row["problems"]]
    return {
        "name": cut(run.name),
        "case": cut(case(run)),
        "state": kind,
        "words": words,
        "lead": lead(nets, happened),
        "cards": cards(one),
        "changes": [c | {"reason": cut(c["reason"])} for c in happened[: panels.CHANGES]],
        "more_changes": len(happened[panels.CHANGES :]),
        "layers": layers(nets),
        "exports": exports(one.export),
        "problems": [(cut(name), cut(problem)) for name, problem in problems[:ROWS]],
        "command": command(run.header),
        "versions": [tuple(map(cut, v)) for v in run.header.get("versions", {}).items()][:ROWS],
    }


def trained(run):
    """Return the entries of a `run.Run` that trained."""
    return [net for net in run.nets if net["epochs"]]


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
    if sum(map(len, words)) > _COMMAND:
        words = ["adprune-train", "--flagfile=flags.txt"]  # the run directory's own
    backend = header.get("versions", {}).get("backend")
    before = [f"KERAS_BACKEND={shlex.quote(cut(backend))}"] if backend else []
    return [*before, *(shlex.quote(printable(word)) for word in words)]


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


def state(run):
    """Return a run's state as a word, and as a few."""
    last = trained(run)[-1]
    if last["outcome"] == "failed":
        reason = cut(last["reason"])
        return "failed", reason[:1].upper() + reason[1:]
    if run.result is None:
        return (
            "unfinished",
            f"Still training, or stopped: {last['start'] + last['epochs']} epochs so far",
        )
    return "finished", "Trained to its end"


def lead(nets, happened):
    """Return a run in a sentence."""
    before, after = (sum(net["widths"].values()) for net in (nets[0], nets[-1]))
    epochs = sum(net["epochs"] for net in nets)
    trained = f"Trained for {epochs} epoch{'s' if epochs != 1 else ''}"
    prunes = sum(" pruned to " in change["what"] for change in happened)
    if not prunes:
        return f"{trained} and never pruned: {before:,} channels."
    times = {1: "once", 2: "twice"}.get(prunes, f"{prunes} times")
    return f"{trained}, pruned {times}: from {before:,} channels to {after:,}."


def cards(one):
    """Return the headline: (title, [(figure, what it counts)], a line below) for each card."""
    nets = trained(one.run)
    rows = summary_rows(nets)
    final, cost, first = rows[-1], nets[-1].get("cost"), rows[0]["accuracy"]
    pruned = first is not None and len(rows) > 1
    epochs = sum(net["epochs"] for net in nets)
    totals = [
        "" if not (cost and nets[0].get("cost")) else _totals(nets[0]["cost"], cost, what)
        for what in ("macs", "params")
    ]
    accuracy = "n/a" if final["accuracy"] is None else f"{final['accuracy']:.2f}\u00a0%"
    return [
        ("Test accuracy", [(accuracy, "")], f"net0 at its prune: {first:.2f}\u00a0%" if pruned else ""),
        ("OPS reduction", _two(final["ops"], _times), totals[0]),
        ("Parameters reduction", _two(final["params"], _times), totals[1]),
        (
            "Training complexity",
            _two(complexity(nets), "{:.1f}".format),
            f"epochs of the dense net (Eq. 4); {epochs} were trained",
        ),
        ("Size on disk", *_sizes(one)),
    ]


def _totals(before, after, what):
    counts = dict.fromkeys(cost["deployed"][what] for cost in (before, after))
    figures = " → ".join(_scaled(count, (("billion", 1e9), ("million", 1e6))) for count in counts)
    return f"{figures} {'MACs' if what == 'macs' else 'parameters'}, deployed"


def complexity(nets):
    """Return the training complexity of nets by count, or `None` where they were not counted."""
    if any(net["ops_reduction"] is None or net["params_reduction"] is None for net in nets):
        return None
    return {count: ops for count, (ops, _) in complexities(nets).items()}


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
    others = "; ".join(f"{cut(name)}: {size(count)}" for count, name in files[1:4])
    return [(size(files[0][0]), cut(files[0][1]))], others


def _two(values, form):
    if values is None:
        return [("n/a", "")]
    return [(form(values[count]), count) for count in COUNTS]


def _times(value):
    """Three digits, as there is room for."""
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}x"


def layers(nets):
    """Return the table of layers: headings, rows, and how many rows are left out.

    It holds the widths of each net, the last AE that was measured, and MACs before and after.
    """
    shown = panels.distinct(nets)
    ends = [shown[0]] if len(shown) == 1 else [shown[0], nets[-1]]
    costs = [net.get("layer_costs") or {} for net in ends]
    measured = [net for net in nets if net["densities"]]
    densities = measured[-1]["densities"] if measured else {}
    names = dict.fromkeys(name for cost in reversed(costs) for name, row in cost.items() if row["macs"])
    names |= dict.fromkeys(name for net in shown for name in net["widths"])
    headings = ["layer", *(f"net{net['net']}" for net in shown)]
    headings += ["last AE"] if densities else []
    headings += [f"MACs, net{net['net']}" for net, cost in zip(ends, costs, strict=True) if cost]
    rows = [
        [
            cut(name),
            *(f"{net['widths'][name]:,}" if name in net["widths"] else "" for net in shown),
            *([_last(densities.get(name))] if densities else []),
            *(f"{cost[name]['macs']:,}" if name in cost else "" for cost in costs if cost),
        ]
        for name in list(names)[:ROWS]
    ]
    return headings, rows, len(names) - len(rows)


def _last(values):
    return "" if not values or values[-1] is None else f"{values[-1]:.3f}"


def exports(export):
    """Return headings and rows of the table of exported files; `None` without any."""
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
            *(cut(name), cut(row["file"]), "failed" if row["problems"] else "verified"),
            *("n/a" if row.get(key) is None else form(row[key]) for _, key, form in columns),
        ]
        for name, row in export.items()
    ]
    return ["format", "file", "checks", *(heading for heading, _, _ in columns)], rows


def comparison(shown):
    """Return headings and rows of the table of runs."""
    headings = [
        "run",
        "case",
        "accuracy",
        "OPS reduction",
        "parameters reduction",
        "training complexity",
    ]
    rows = []
    for one in shown[:ROWS]:
        nets = trained(one.run)
        last = summary_rows(nets)[-1]
        rows.append(
            [
                *(cut(one.run.name), cut(case(one.run))),
                "n/a" if last["accuracy"] is None else f"{last['accuracy']:.2f} %",
                *(both(last["ops"]), both(last["params"])),
                *(both(complexity(nets), "{:.1f}"), str(sum(net["epochs"] for net in nets))),
                *(_sizes(one)[0][0][0], state(one.run)[0]),
            ]
        )
    return [*headings, "epochs", "size", "state"], rows


def cut(text):
    """Return a text without control characters, and not longer than a paragraph."""
    text = printable(text)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]} …"
