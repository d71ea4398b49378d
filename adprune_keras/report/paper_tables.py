"""The paper's tables from runs' records. Numbers first, rendering after: rows are plain data."""

import pathlib
from dataclasses import asdict

from adprune_keras.counting.counts import COUNTS
from adprune_keras.counting.reductions import training_complexity
from adprune_keras.report import paper
from adprune_keras.report.summary import OURS, complexities, summary_rows
from adprune_keras.report.table import Table, both, percent

_BOTH = "Reductions and complexities of runs: paper count / deployed count."


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
    columns = [("run", lambda r: r["run"]), *OURS, ("AE", lambda r: r["profile"])]
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
        ("accuracy", lambda r: percent(r["accuracy"])),
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


def _printed(row):
    printed = row["paper"]
    if printed is None:
        return ""
    epochs = "N/A" if printed["epochs"] is None else printed["epochs"]
    return f"{printed['accuracy']} %, {printed['params']}x, {printed['ops']}x, {epochs}"
