"""Activation-density pruning of Keras 3 CNNs, while they train.

>>> from adprune_keras import ADPrune
>>> model.fit(train, epochs=300, validation_data=val, callbacks=[ADPrune()])

Names are loaded when they are first used: importing the package imports neither Keras nor a backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

from adprune_keras._version import __version__ as __version__

if TYPE_CHECKING:
    from adprune_keras import models as models
    from adprune_keras.backup.callback import Backup as Backup
    from adprune_keras.counting.count import cost as cost
    from adprune_keras.counting.counts import Cost as Cost
    from adprune_keras.counting.reductions import ops_reduction as ops_reduction
    from adprune_keras.counting.reductions import params_reduction as params_reduction
    from adprune_keras.counting.reductions import training_complexity as training_complexity
    from adprune_keras.density.from_data import activation_density as activation_density
    from adprune_keras.graph.groups import layer_widths as layer_widths
    from adprune_keras.graph.rebuild import resize as resize
    from adprune_keras.prune.callback import ADPrune as ADPrune
    from adprune_keras.prune.schedule import Saturation as Saturation
    from adprune_keras.prune.widths import WidthRule as WidthRule
    from adprune_keras.train.board import Board as Board

# Public name: the module that it is loaded from. The imports above say the same to whoever checks types.
_HOME = {
    "ADPrune": "prune.callback",
    "Backup": "backup.callback",
    "Board": "train.board",
    "Cost": "counting.counts",
    "Saturation": "prune.schedule",
    "WidthRule": "prune.widths",
    "activation_density": "density.from_data",
    "cost": "counting.count",
    "layer_widths": "graph.groups",
    "ops_reduction": "counting.reductions",
    "params_reduction": "counting.reductions",
    "resize": "graph.rebuild",
    "training_complexity": "counting.reductions",
}
__all__ = [
    "ADPrune",
    "Backup",
    "Board",
    "Cost",
    "Saturation",
    "WidthRule",
    "__version__",
    "activation_density",
    "cost",
    "layer_widths",
    "models",
    "ops_reduction",
    "params_reduction",
    "resize",
    "training_complexity",
]


def __getattr__(name: str) -> Any:
    if name == "models":
        return importlib.import_module("adprune_keras.models")
    if name not in _HOME:
        raise AttributeError(f"module 'adprune_keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"adprune_keras.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
