"""A plan as text for a terminal; numbers in, tables out."""

import io
import shutil

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adprune_keras.counting.counts import COUNTS
from adprune_keras.counting.reductions import ops_reduction, params_reduction
from adprune_keras.counting.sizes import DTYPES, file_sizes
from adprune_keras.text import printable

WIDTH = 100  # columns, where there is no terminal to ask
_NARROWEST = 60
WEIGHTS = {
    "inherit": "the channels that stay keep their weights",
    "random": "all weights are new",
}
_WHAT = {"macs": "MACs", "params": "parameters"}


def plan(found, network, source, weights):
    """Render a `plan.Plan`.

    Args:
        found: the plan.
        network: str, its name.
        source: str, where the densities come from.
        weights: `"inherit"` or `"random"`, what becomes of the weights.

    Returns:
        str, at most as wide as the terminal.
    """
    file = io.StringIO()
    width = max(_NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)
    console = Console(file=file, width=width, color_system=None)

    def say(text=""):
        console.print(Text(text))

    pruned = [line for line in found.lines if line.owner == line.layer and _shrinks(line)]
    say(f"Network: {printable(network)}")
    say(f"Densities (AE): {printable(source)}")
    say(f"Weights: {WEIGHTS[weights]} (--weights={weights})")
    say(
        f"{len(found.lines)} layers with weights; {len(found.widths)} widths that pruning may change, "
        f"{len(pruned)} that it would. A width is decided by ReLUs (+1: and one more), or (=) by the "
        "layer whose channels it shares. MACs and parameters of layers: deployed count."
    )
    notes = dict.fromkeys(line.stays for line in found.lines if line.stays)
    letters = {reason: _letter(i) for i, reason in enumerate(notes)}
    console.print(_layers(found.lines, letters))
    for reason, letter in letters.items():
        say(f"{letter}: stays: {printable(reason)}.")
    for layer, reason in found.inexact.items():
        say(f"Inherited weights are not exact for {printable(layer)}: {printable(reason)}.")
    console.print(_totals(found))
    say(
        "paper count: convolutions that own a width; deployed count: all that ships, batch "
        "normalisation folded. File sizes are predictions from the deployed parameters and the number "
        "of layers, within a few per cent of exported files; adprune-export makes and checks the files."
    )
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())


def _layers(lines, letters):
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("decided by", overflow="fold")
    for name in ("AE", "width", "MACs", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        cells = (
            printable(line.layer),
            printable(_decides(line, letters)),
            "" if line.density is None or line.owner != line.layer else f"{line.density:.2f}",
            _change(line.widths, str),
            _change(line.macs, short),
            _change(line.params, short),
        )
        table.add_row(*map(Text, cells))
    return table


def _decides(line, letters):
    if line.widths[0] is None:
        return "new projection"
    if line.owner is None:
        return "its input"
    if line.owner != line.layer:
        return f"= {line.owner}"
    if line.stays:
        return f"stays, see {letters[line.stays]}"
    more = f" +{len(line.relus) - 1}" if len(line.relus) > 1 else ""
    return f"{line.relus[0]}{more}"


def _totals(found):
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("in all", overflow="fold")
    for name in ("before", "after", "reduction"):
        table.add_column(name, justify="right", no_wrap=True)
    for what, name in _WHAT.items():
        reduction = ops_reduction if what == "macs" else params_reduction
        for count in COUNTS:
            before, after = (getattr(getattr(c, count), what) for c in (found.before, found.after))
            if before:
                factor = f"{reduction(found.before, found.after, count):.2f}x"
                table.add_row(f"{name}, {count} count", f"{before:,}", f"{after:,}", factor)
    before, after = file_sizes(found.before), file_sizes(found.after)
    for name in before:
        factor = f"{before[name] / after[name]:.2f}x"
        sizes = (f"{size / 1000:,.0f} kB" for size in (before[name], after[name]))
        table.add_row(f"file, {name} ({DTYPES[name]}), predicted", *sizes, factor)
    return table


def _shrinks(line):
    return line.widths[0] is not None and line.widths[1] < line.widths[0]


def _change(values, form):
    before, after = values
    if before == after:
        return form(after)
    return f"{'' if before is None else form(before)}\u2192{form(after)}"


def short(number):
    """Return a number with three digits and a unit: 9,472 -> "9.47k"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return str(number)


def _letter(index):
    """a, b, ..., z, aa, ab, ..."""
    text = chr(ord("a") + index % 26)
    return text if index < 26 else _letter(index // 26 - 1) + text
