"""What ends a training: a loss, density or weight that is not finite, or an epoch without a batch."""

import warnings
from math import isfinite, isnan

import keras
from keras import ops


def find(model, loss, densities=None):
    """Say what is wrong with a model after an epoch, and where it is seen first.

    Args:
        model: `keras.Model`, its weights as they are after the epoch.
        loss: float, the epoch's loss, or `None` where there is none.
        densities: `{layer name: AE}` in graph order, or `None` where they were not measured.

    Returns:
        What is wrong and what to do about it, as a sentence, or `None` where all is finite.
    """
    densities = densities or {}
    if loss in (None, 0) and densities and all(map(isnan, densities.values())):
        return (
            "no batch was trained in it. Give data with at least one batch for each epoch: a generator "
            "ends, unless it is repeated."
        )
    where = None
    if layer := next((name for name, density in densities.items() if isnan(density)), None):
        where = f"layer '{layer}' is the first whose AE is not finite"
    elif weight := _first_not_finite(model.weights):
        where = f"'{weight}' is the first weight that is not finite"
    elif loss is None or isfinite(loss):
        return None
    value = "" if loss is None else f"the loss is {loss:g}, and "
    return (
        f"{value}{where or 'all AE and weights are finite'}. Lower the learning rate, and look for "
        "images with NaN or inf and for labels outside the classes."
    )


def _first_not_finite(weights):
    """Path of the first weight with NaN or inf in it: one small transfer for all of them."""
    weights = [w for w in weights if keras.backend.is_float_dtype(w.dtype)]
    if not weights:
        return None
    finite = ops.convert_to_numpy(ops.stack([ops.all(ops.isfinite(w)) for w in weights]))
    return next((w.path for w, good in zip(weights, finite, strict=True) if not good), None)


def end_if_failed(model, entry, logs, done, densities=None):
    """Stop training, warn and mark the net as failed where its last epoch is not finite.

    Args:
        model: the `keras.Model` that trains.
        entry: the record of its net, the epoch included.
        logs: `{name: number}` of the epoch.
        done: int, epochs finished.
        densities: as in `faults.find`.

    Returns:
        bool, whether it failed.
    """
    fault = find(model, logs.get("loss"), densities)
    if fault:
        entry["outcome"], entry["reason"] = "failed", f"failed in epoch {done}: {fault}"
        warnings.warn(f"Training {entry['reason']}", stacklevel=3)
        model.stop_training = True
    return fault is not None
