"""`docs/settings.md`: a table for each settings dataclass, made from its fields.

python -m adprune_keras.cli.settings_page > docs/settings.md
"""

import dataclasses

from adprune_keras.data.settings import Images, Source
from adprune_keras.prune.schedule import Epochs, Saturation
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.train.settings import Machine, Network, Output, Training

_HEAD = """\
# Settings

Each setting is declared once, in the dataclass that its table is made from. `adprune-train` has a flag
of the same name for each, and `adprune-train --help` shows them too. In Python, `ADPrune(schedule=...)`
takes a `Saturation` or a list of epochs, `ADPrune(rule=...)` takes a `WidthRule`, and the other settings
of a prune are arguments of `ADPrune`."""
_TABLES = {
    "When to prune: `Saturation`, the default schedule": Saturation,
    "When to prune: a list of epochs": Epochs,
    "What a prune does: arguments of `ADPrune`": Pruning,
    "How far: `WidthRule`": WidthRule,
    "Training (`adprune-train`)": Training,
    "Network (`adprune-train`, `adprune-plan`)": Network,
    "Data (`adprune-train`, `adprune-plan`)": Source,
    "Images (`adprune-train`)": Images,
    "The run (`adprune-train`)": Output,
    "The machine (`adprune-train`)": Machine,
}


def page(tables=None):
    """Return the page.

    Args:
        tables: `{title: settings dataclass}`, or `None` for all.
    """
    parts = [_HEAD]
    for title, kind in (tables or _TABLES).items():
        rows = [_row(field) for field in dataclasses.fields(kind)]
        parts.append(
            "\n".join(
                [f"## {title}", "", "| setting | default | what it does |", "| --- | --- | --- |", *rows]
            )
        )
    return "\n\n".join(parts) + "\n"


def _row(field):
    said = field.metadata
    default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
    about = said["about"].replace("|", "\\|")
    if said["choices"]:
        about += f" One of {', '.join(f'`{choice}`' for choice in said['choices'])}."
    return f"| `{field.name}` | {default} | {about} |"


if __name__ == "__main__":
    print(page(), end="")
