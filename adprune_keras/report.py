"""A run's record as tables. Numbers first, rendering after: rows are plain data, one function prints."""

from adprune_keras.accounting import COUNTS, training_complexity, training_memory_complexity


def summary_rows(nets):
    """Return the rows of the run's Table I, one for each entry of `ADPrune.record`.

    Args:
        nets: list of dicts as in `ADPrune.record` (plain data, read back from a record or not).

    Returns:
        list of dicts: `net`, `configuration`, `accuracy` (test accuracy in percent after the entry's
        last epoch, or `None`), `params` and `ops` (reductions against net0 by count, or `None`),
        `epochs`, `reason`.
    """
    return [
        {
            "net": f"net{net['net']}",
            "configuration": list(net["widths"].values()),
            "accuracy": _last_accuracy(net["logs"]),
            "params": net["params_reduction"],
            "ops": net["ops_reduction"],
            "epochs": net["epochs"],
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
    lines = markdown(
        ("net", "configuration", "accuracy", "parameters reduction", "OPS reduction", "epochs"),
        [
            (
                row["net"],
                "[" + ", ".join(map(str, row["configuration"])) + "]",
                "n/a" if row["accuracy"] is None else f"{row['accuracy']:.2f} %",
                _both(row["params"]),
                _both(row["ops"]),
                row["epochs"],
            )
            for row in summary_rows(nets)
        ],
    )
    epochs = sum(net["epochs"] for net in nets)
    notes = ["Reductions: paper count / deployed count."]
    for count, (ops, memory) in complexities(nets).items():
        notes.append(
            f"Training complexity ({count} count): {ops:.1f} for {epochs} epochs "
            f"(dense: {epochs}); memory complexity {memory:.1f}."
        )
    notes += [f"{r['net']}: {r['reason'].rstrip('.')}." for r in summary_rows(nets) if r["reason"]]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def markdown(header, rows):
    """Return a Markdown table as a list of lines, columns padded so that it reads as text too."""
    cells = [tuple(str(c) for c in row) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    padded = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "| " + " | ".join("-" * w for w in widths) + " |"
    return [padded[0], rule, *padded[1:]]


def _both(reduction):
    if reduction is None:
        return "n/a"
    return " / ".join(f"{reduction[count]:.2f}x" for count in COUNTS)


def _last_accuracy(logs):
    for name in ("val_accuracy", "val_sparse_categorical_accuracy", "val_categorical_accuracy"):
        if logs.get(name):
            return 100 * logs[name][-1]
    return None
