"""What Keras' callbacks keep from epoch to epoch."""

import numpy as np
from keras import callbacks

from adprune_keras.live.keras_private import unexpected


def _is_count(value):
    return isinstance(value, int | float | None) and not isinstance(value, bool)


def _is_history(value):
    return isinstance(value, dict) and all(isinstance(series, list) for series in value.values())


def _are_counts(value):
    return isinstance(value, list) and all(map(_is_count, value))


def _are_arrays(value):
    return value is None or (isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value))


# What Keras' callbacks keep from epoch to epoch, and what values these can have. A backup sets nothing
# else: one that somebody else made must not give a callback another file to write.
_CALLBACK_STATE = {
    callbacks.History: {"epoch": _are_counts, "history": _is_history},
    callbacks.EarlyStopping: {
        **dict.fromkeys(("best", "wait", "best_epoch", "stopped_epoch"), _is_count),
        "best_weights": _are_arrays,
    },
    callbacks.ReduceLROnPlateau: dict.fromkeys(("best", "wait", "cooldown_counter"), _is_count),
    callbacks.ModelCheckpoint: dict.fromkeys(
        ("best", "_last_batch_seen", "_batches_seen_since_last_saving"), _is_count
    ),
}


def callback_state(callback):
    """Return what one of Keras' own callbacks keeps from epoch to epoch, as `{attribute: value}`."""
    names = _kept_by(callback)
    for name in names:
        if not hasattr(callback, name):
            raise unexpected(type(callback).__name__, name)
    return {name: getattr(callback, name) for name in names}


def check_callback_state(callback, state):
    """Refuse a state that `callback_state` does not return for such a callback.

    Raises:
        ValueError: the message completes a sentence.
    """
    fits = _kept_by(callback)
    if not isinstance(state, dict) or state.keys() != fits.keys():
        found = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"a state of {type(callback).__name__} with {found}, expected {sorted(fits)}")
    for name, value in state.items():
        if not fits[name](value):
            raise ValueError(f"a state of {type(callback).__name__} with {name}={str(value)[:99]}")


def set_callback_state(callback, state):
    """Put back what `callback_state` returned."""
    check_callback_state(callback, state)
    for name, value in state.items():
        setattr(callback, name, value)


def _kept_by(callback):
    return next((names for kind, names in _CALLBACK_STATE.items() if isinstance(callback, kind)), {})
