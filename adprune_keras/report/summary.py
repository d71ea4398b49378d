"""A run's own Table I and its training complexity."""

from adprune_keras.counting.counts import COUNTS
from adprune_keras.counting.reductions import training_complexity
from adprune_keras.report.table import both, escape, markdown_table, percent


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
            training_complexity((n["params_reduction"][count], n["epochs"]) for n in nets),
        )
        for count in COUNTS
    }


def summary(nets):
    """Render a run's Table I and its training complexity as Markdown, both ways of counting.

    Args:
        nets: list of dicts as in `ADPrune.record`.
    """
    rows = summary_rows(nets)
    lines = markdown_table(
        [heading for heading, _ in OURS], [[text(row) for _, text in OURS] for row in rows]
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


def _last_accuracy(logs):
    for name in ("val_accuracy", "val_sparse_categorical_accuracy", "val_categorical_accuracy"):
        if logs.get(name) and logs[name][-1] is not None:
            return 100 * logs[name][-1]
    return None


OURS = (
    ("net", lambda r: f"net{r['net']}"),
    ("configuration", lambda r: "[" + ", ".join(map(str, r["configuration"])) + "]"),
    ("accuracy", lambda r: percent(r["accuracy"])),
    ("parameters reduction", lambda r: both(r["params"])),
    ("OPS reduction", lambda r: both(r["ops"])),
    ("epochs", lambda r: str(r["epochs"])),
)
