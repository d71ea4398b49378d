"""Tables as plain data, and as Markdown and CSV."""

import csv
import io
import re
from dataclasses import dataclass

from adprune_keras.counting.counts import COUNTS
from adprune_keras.text import printable


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
        lines = markdown_table(*self.cells())
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


def markdown_table(header, rows):
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


def both(values, form="{:.2f}x"):
    """Render a figure in both ways of counting, paper count first; "n/a" for `None`."""
    if values is None:
        return "n/a"
    return " / ".join(form.format(values[count]) for count in COUNTS)


def percent(value):
    """Render an accuracy; "n/a" for `None`."""
    return "n/a" if value is None else f"{value:.2f} %"


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
