"""The other callbacks of a `fit`: Keras' own, and those with `get_state` and `set_state`."""

from adprune_keras.live.callback_state import callback_state, check_callback_state, set_callback_state


def states(callbacks):
    """Return the states of callbacks, as `[class name, state]` of each."""
    return [
        [type(c).__name__, c.get_state() if hasattr(c, "set_state") else callback_state(c)]
        for c in callbacks
    ]


def check(callbacks, saved):
    """Raise `ValueError` where a saved state of one of Keras' callbacks is not what it keeps."""
    for callback, state in _pairs(callbacks, saved):
        if not hasattr(callback, "set_state"):
            check_callback_state(callback, state)


def restore(callbacks, saved):
    """Give callbacks the states that `states` returned."""
    for callback, state in _pairs(callbacks, saved):
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            set_callback_state(callback, state)


def _pairs(callbacks, saved):
    """Pairs of a callback and the state that was saved of it: the first of its class that is left."""
    left = list(saved)
    for callback in callbacks:
        name = type(callback).__name__
        at = next((i for i, (other, _) in enumerate(left) if other == name), None)
        if at is not None:
            yield callback, left.pop(at)[1]
