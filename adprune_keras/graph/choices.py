"""Words that say how a network is rebuilt. Imports nothing, so that flags can name them."""

from typing import Literal, get_args

Shortcuts = Literal["project", "couple"]
SHORTCUTS = get_args(Shortcuts)
Weights = Literal["random", "inherit"]
WEIGHTS = get_args(Weights)
