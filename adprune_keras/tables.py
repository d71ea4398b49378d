"""The paper's tables from runs' records. Numbers first, rendering after: rows are plain data."""

import csv
import io
import pathlib
import re
from dataclasses import asdict, dataclass

from adprune_keras import paper
from adprune_keras.accounting import COUNTS, training_complexity, training_memory_complexity
from adprune_keras.names import printable

_BOTH = "Reductions and complexities of runs: paper count / deployed count."


@dataclass(frozen=True)
class Table:
    """A table as plain data, and how its columns read.

    Attributes:
        title: str.
        columns: tuple of (heading, function of a row that returns the cell's text).
        rows: list of dicts of plain data, all with the same keys.
        notes: list of sentences that belong under it.
    """

    title: str
    columns: tuple
    rows: list
    notes: list

    def cells(self):
        """Return its headings, and its rows as lists of texts."""
        rows = [[text(row) for _, text in self.columns] for row in self.rows]
        return [heading for heading, _ in self.columns], rows

    def markdown(self):
        """Render with its title and notes, as a string."""
        lines = markdown(*self.cells())
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"### {self.title}", "", *lines, *notes]) + "\n"

    def csv(self):
        """Render the rows with all their figures, as a string; reductions have a column a count."""
        flat = [_flat(row) for row in self.rows]
        file = io.StringIO()
        columns = dict.fromkeys(key for row in flat for key in row)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return file.getvalue()


def summary_rows(nets):
    """Return the rows of the run's Table I, one for each entry of `ADPrune.record`.

    Args:
        nets: list of dicts as in `ADPrune.record` (plain data, read back from a record or not).

    Returns:
        list of dicts: `net` (index), `configuration`, `accuracy` (test accuracy in percent after the
        entry's last epoch, or `None`), `params` and `ops` (reductions against net0 by count, or `None`),
        `epochs`, `profile` of AE, `reason`.
    """
    return [
        {
            "net": net["net"],
            "configuration": list(net["widths"].values()),
            "accuracy": _last_accuracy(net["logs"]),
            "params": net["params_reduction"],
            "ops": net["ops_reduction"],
            "epochs": net["epochs"],
            "profile": net.get("profile", "unknown"),
            "reason": net["reason"],
        }
        for net in nets
        if net["epochs"]
    ]


def complexities(nets):
    """Return `{count: (training complexity, training memory complexity)}` of a run (Eq. 4, IV-D)."""
    nets = [net for net in nets if net["ops_reduction"] is not None]
    return {
        count: (
            training_complexity((n["ops_reduction"][count], n["epochs"]) for n in nets),
            training_memory_complexity((n["params_reduction"][count], n["epochs"]) for n in nets),
        )
        for count in COUNTS
    }


def summary(nets):
    """Render a run's Table I and its training complexity as Markdown, both ways of counting.

    Args:
        nets: list of dicts as in `ADPrune.record`.
    """
    rows = summary_rows(nets)
    lines = markdown(
        [heading for heading, _ in _OURS], [[text(row) for _, text in _OURS] for row in rows]
    )
    epochs = sum(net["epochs"] for net in nets)
    notes = ["Reductions: paper count / deployed count."]
    for count, (ops, memory) in complexities(nets).items():
        notes.append(
            f"Training complexity ({count} count): {ops:.1f} for {epochs} epochs "
            f"(dense: {epochs}); memory complexity {memory:.1f}."
        )
    for row in rows:
        shape = "" if row["profile"] == "unknown" else f" ({row['profile']} AE)"
        notes += (
            [f"net{row['net']}{shape}: {escape(row['reason']).rstrip('.')}."] if row["reason"] else []
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def study_of(run):
    """Return the `paper.Study` whose case a run is: data set, network, full widths and all images.

    Args:
        run: `run.Run`.

    Returns:
        The study, or `None` where the paper has no figures for this very case.
    """
    whole = not run.header["flags"].get("train_examples")
    for study in paper.STUDIES.values():
        widths = tuple(run.nets[0]["widths"].values()) if run.nets else ()
        same = (run.header["flags"]["network"], widths) == (study.network, study.nets[0].widths)
        if whole and same and _is_on(run, study.dataset, study.classes):
            return study
    return None


def label(run):
    """Return a run's name and case, in a few words."""
    return f"{run.name} ({case(run)})"


def case(run):
    """Return a run's case: network, data set, and what is not as in the paper."""
    flags, facts = run.header["flags"], run.header["data"]
    words = [f"{flags['network']}, {pathlib.Path(flags['dataset']).stem}"]
    if flags.get("train_examples"):
        words.append(f"{facts['train_examples']:,} images")
    if flags.get("width_scale", 1) != 1:
        words.append(f"widths x {flags['width_scale']:g}")
    return ", ".join(words)


def table_1(runs):
    """Table I: each net of each run, with the paper's own row where the case is the same.

    Args:
        runs: list of `run.Run`.

    Returns:
        A `Table`.
    """
    rows = []
    for run in runs:
        study = study_of(run)
        for row in summary_rows(run.nets):
            printed = study.nets[row["net"]] if study and row["net"] < len(study.nets) else None
            rows.append({"run": label(run), **row, "paper": printed and asdict(printed)})
    notes = [
        _BOTH,
        "The accuracy of a net that was pruned is the one at its prune; the paper gives that of a full "
        "training cycle.",
    ]
    columns = [("run", lambda r: r["run"]), *_OURS, ("AE", lambda r: r["profile"])]
    if any(row["paper"] for row in rows):
        columns.append(("paper: accuracy, parameters, OPS, epochs", _printed))
    return Table("Table I: summary of results", tuple(columns), rows, notes)


def table_2(runs):
    """Table II: training complexity (Eq. 4) of each net, had it been the final one.

    The final cycle is as long for each net as it was for the run's own final net, and so is the dense
    baseline's, as in the paper. The final net's row is the run as it was, a roll-back included.

    Args:
        runs: list of `run.Run`.

    Returns:
        A `Table`.
    """
    rows = []
    for run in runs:
        nets = [n for n in run.nets if n["epochs"] and n["ops_reduction"]]
        study, seen = study_of(run), set()
        for at, net in enumerate(nets):
            if net["net"] in seen:
                continue
            seen.add(net["net"])
            cycle = nets[-1]["epochs"]
            final = net["net"] == nets[-1]["net"]
            spent = [(n["ops_reduction"], n["epochs"]) for n in (nets if final else nets[:at])]
            if net["net"] == 0:
                spent = []
            if not final or net["net"] == 0:
                spent.append((net["ops_reduction"], cycle))
            values = {c: training_complexity((r[c], e) for r, e in spent) for c in COUNTS}
            rows.append(
                {
                    "run": label(run),
                    "net": net["net"],
                    "final": final,
                    "complexity": values,
                    "against_dense": {c: v / cycle for c, v in values.items()},
                    "paper": study.complexity.get(net["net"]) if study else None,
                }
            )
    columns = [
        ("run", lambda r: r["run"]),
        ("net", lambda r: f"net{r['net']}" + (", final" if r["final"] else "")),
        ("training complexity", lambda r: both(r["complexity"], "{:.1f}")),
        ("against the dense net", lambda r: both(r["against_dense"])),
    ]
    if any(row["paper"] for row in rows):
        columns.append(("paper", lambda r: "" if r["paper"] is None else f"{r['paper']:.1f}"))
    note = (
        "Each net as if it had been the final one, with a final cycle as long as that of the run's own "
        "final net; so the dense net counts that cycle alone, as in the paper."
    )
    return Table("Table II: training complexity", tuple(columns), rows, [_BOTH, note])


def table_3(runs):
    """Table III: VGG-19 on CIFAR-100 beside previous work.

    Args:
        runs: list of `run.Run`; those of another case are left out.

    Returns:
        A `Table`.
    """
    ours = [run for run in runs if _is_on(run, "cifar100", 100)]
    title = "Table III: VGG-19 on CIFAR-100"
    return _compared(title, "training complexity", paper.TABLE_3, ours, memory=False)


def table_4(runs):
    """Table IV: ResNet18 and VGG-19 on CIFAR-10 beside the lottery ticket hypothesis (LTH).

    Args:
        runs: list of `run.Run`; those of another case are left out.

    Returns:
        A `Table`.
    """
    ours = [run for run in runs if _is_on(run, "cifar10", 10)]
    title = "Table IV: CIFAR-10 beside LTH"
    table = _compared(title, "training memory complexity", paper.TABLE_4, ours, memory=True)
    table.notes.append("By its own formula the paper's 120.8 and 129.4 would be 114.7 and 143.0.")
    return table


TABLES = {"table1": table_1, "table2": table_2, "table3": table_3, "table4": table_4}


def markdown(header, rows):
    """Return a Markdown table as a list of lines, columns padded so that it reads as text too."""
    cells = [tuple(escape(c).replace("|", "\\|") for c in row) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    padded = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "| " + " | ".join("-" * w for w in widths) + " |"
    return [padded[0], rule, *padded[1:]]


def escape(text):
    """Return a text for a line of Markdown: one line, no code, no HTML."""
    return re.sub(r"[`\\]|<(?=[A-Za-z/!?])", r"\\\g<0>", printable(text))


def _compared(title, complexity, published, ours, memory):
    rows = [
        {
            "source": row.authors + ("" if row.authors == "the paper" else ", as the paper cites them"),
            "network": row.network,
            "complexity": dict.fromkeys(COUNTS, row.complexity),
            "accuracy": row.accuracy,
            "params": dict.fromkeys(COUNTS, row.params),
            "ops": None if row.ops is None else dict.fromkeys(COUNTS, row.ops),
            "published": True,
        }
        for row in published
    ]
    networks = {row.network for row in published}
    for run in (r for r in ours if r.header["flags"]["network"] in networks):
        last = summary_rows(run.nets)[-1]
        rows.append(
            {
                "source": label(run),
                "network": run.header["flags"]["network"],
                "complexity": {c: values[memory] for c, values in complexities(run.nets).items()},
                "accuracy": last["accuracy"],
                "params": last["params"],
                "ops": last["ops"],
                "published": False,
            }
        )
    columns = (
        ("source", lambda r: r["source"]),
        ("network", lambda r: r["network"]),
        (complexity, lambda r: _figure(r, "complexity", "{:.1f}")),
        ("accuracy", lambda r: _percent(r["accuracy"])),
        ("parameters reduction", lambda r: _figure(r, "params")),
        ("OPS reduction", lambda r: _figure(r, "ops")),
    )
    notes = [_BOTH, "Published rows are the paper's own figures and its citations; nothing was re-run."]
    return Table(title, columns, rows, notes)


def _is_on(run, dataset, classes):
    stem = pathlib.Path(run.header["flags"]["dataset"]).stem.lower()
    named = stem == dataset or stem.startswith((f"{dataset}_", f"{dataset}-"))
    return named and run.header["data"]["classes"] == classes


def _figure(row, key, form="{:.2f}x"):
    if row["published"]:
        suffix = "x" if form.endswith("x") else ""
        return "n/a" if row[key] is None else f"{row[key][COUNTS[0]]:g}{suffix}"
    return both(row[key], form)


def both(values, form="{:.2f}x"):
    """Render a figure in both ways of counting, paper count first; "n/a" for `None`."""
    if values is None:
        return "n/a"
    return " / ".join(form.format(values[count]) for count in COUNTS)


def _percent(value):
    return "n/a" if value is None else f"{value:.2f} %"


def _printed(row):
    printed = row["paper"]
    if printed is None:
        return ""
    epochs = "N/A" if printed["epochs"] is None else printed["epochs"]
    return f"{printed['accuracy']} %, {printed['params']}x, {printed['ops']}x, {epochs}"


def _flat(row, prefix=""):
    """One level of keys; what is `None` is left out, so that its cell stays empty."""
    flat = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}_")
        elif value is not None:
            listed = isinstance(value, list | tuple)
            flat[prefix + key] = " ".join(map(str, value)) if listed else value
    return flat


def _last_accuracy(logs):
    for name in ("val_accuracy", "val_sparse_categorical_accuracy", "val_categorical_accuracy"):
        if logs.get(name) and logs[name][-1] is not None:
            return 100 * logs[name][-1]
    return None


_OURS = (
    ("net", lambda r: f"net{r['net']}"),
    ("configuration", lambda r: "[" + ", ".join(map(str, r["configuration"])) + "]"),
    ("accuracy", lambda r: _percent(r["accuracy"])),
    ("parameters reduction", lambda r: both(r["params"])),
    ("OPS reduction", lambda r: both(r["ops"])),
    ("epochs", lambda r: str(r["epochs"])),
)
