"""What a prune says, in words."""

from adprune_keras.counting.counts import COUNTS


def saved(entry):
    """What a net saves against net0, in words."""
    if entry["ops_reduction"] is None:
        return "What it saves cannot be counted."
    counts = " / ".join(COUNTS)
    ops, params = (
        " / ".join(f"{entry[what][count]:.2f}x" for count in COUNTS)
        for what in ("ops_reduction", "params_reduction")
    )
    return f"Against net0: {ops} fewer MACs, {params} fewer parameters ({counts} count)."
