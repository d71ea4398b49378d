"""What all that touches private Keras shares."""

import contextlib

import keras


def scope(model):
    """Return the scope that variables of a distributed TensorFlow model must be made in, or none."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def unexpected(owner, name):
    """Return the error for something that this version of Keras does not have."""
    return RuntimeError(
        f"Keras {keras.__version__} keeps no `{name}` on {owner}, where Keras 3.15 does, so a model "
        "cannot be changed while it trains. Install the Keras version named in setup.cfg, "
        "and please report this."
    )
