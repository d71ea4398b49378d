"""Which channels a prune takes, and what it leaves: the settings of `ADPrune` that are no schedule."""

import dataclasses

from adprune_keras.graph.choices import SHORTCUTS, WEIGHTS, Shortcuts, Weights
from adprune_keras.settings import check, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning:
    """What a prune does, each setting declared once; `ADPrune` documents them.

    Raises:
        ValueError: a value that a setting cannot have, by name.
    """

    target: float | None = setting(
        None,
        "OPS reduction (deployed count) at which pruning ends. Default: none, AE alone decides.",
    )
    weights: Weights = setting(
        "inherit",
        "After a prune: inherit those of the channels that stay, which ends higher in short runs, or "
        "random new ones, the paper's.",
        choices=WEIGHTS,
    )
    shortcuts: Shortcuts = setting(
        "project",
        "project, the paper's: each end of a shortcut has a width of its own, and a 1x1 projection "
        "joins them; couple: one width for all that an Add ties together.",
        choices=SHORTCUTS,
    )
    sample_places: int | None = setting(
        16,
        "Places of each map at which activations are counted, spread over it; None: all of them.",
        least=1,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.target is not None and not self.target > 1:
            raise ValueError(
                f"`target` must be a number above 1 or None. Received: target={self.target!r}"
            )
