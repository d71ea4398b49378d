"""Export a trained network and check each file by running it; installed as `adprune_keras.export`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adprune_keras.export.pipeline import export_model as export_model
    from adprune_keras.export.verify import VerificationError as VerificationError

_HOME = {"export_model": "pipeline", "VerificationError": "verify"}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adprune_keras.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"adprune_keras.export.{_HOME[name]}"), name)
