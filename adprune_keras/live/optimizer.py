"""An optimizer's state, cut like the variables that it belongs to."""

import warnings

import keras
import numpy as np
from keras import ops

from adprune_keras.live.keras_private import unexpected

# Lists of an optimizer that are no slots: all its variables, and the model's.
_NO_SLOTS = ("_variables", "_trainable_variables")


def optimizer_recipe(optimizer):
    """Return a function that makes a new optimizer as this one was before it trained.

    Taken when training begins, so that learning rates which callbacks change later do not stick. A
    learning-rate schedule is passed on as the object it is: a user's own class need not be
    registered with Keras.
    """
    config = optimizer.get_config()
    schedule = getattr(optimizer, "_learning_rate", None)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        config["learning_rate"] = schedule
    return lambda: type(optimizer).from_config(dict(config))


def inherit_state(old, new, origins):
    """Cut an optimizer's slots like the variables that they belong to; keep its counters and rate.

    An optimizer keeps its slots in lists with one entry for each trainable variable, in order, whatever
    their names; single variables are counters, scales and the learning rate. Adafactor's factored
    slots lack one axis of their variable. What fits neither form starts afresh, with a warning.
    """
    restarted = _copy_state(old, new, {id(v): (w, take) for v, w, take in origins})
    if restarted:
        warnings.warn(
            f"{type(new).__name__} starts afresh in part, because its state is of a form that cannot "
            f"be inherited: {', '.join(sorted(restarted))}.",
            stacklevel=2,
        )


def _copy_state(old, new, origins):
    before, after = _trainables(old), _trainables(new)
    place = {id(v): i for i, v in enumerate(after)}
    restarted, done = set(), set()
    for name, value in vars(old).items():
        counterpart = vars(new).get(name)
        if isinstance(value, keras.optimizers.Optimizer):  # what a loss-scale optimizer wraps
            restarted |= _copy_state(value, counterpart, origins)
            done |= {id(v) for v in counterpart.variables}
        elif isinstance(value, keras.Variable):
            # A copy: what is shared JAX gives away in the next step, and the old net may come back.
            counterpart.assign(ops.convert_to_numpy(value))
            done.add(id(counterpart))
        elif _are_slots(value, before) and name not in _NO_SLOTS:
            for variable, slot in zip(before, value, strict=True):
                if slot is None or id(variable) not in origins:
                    continue
                successor, take = origins[id(variable)]
                target = counterpart[place[id(successor)]]
                state = _take_slot(ops.convert_to_numpy(slot), variable.shape, take, name)
                if state is None or state.shape != tuple(target.shape):
                    restarted.add(name)
                else:
                    target.assign(state)
            done |= {id(slot) for slot in counterpart}
    left = [v for v in new.variables if id(v) not in done]
    return restarted | {v.path for v in left}


def _are_slots(value, variables):
    return (
        isinstance(value, list)
        and len(value) == len(variables)
        and all(slot is None or isinstance(slot, keras.Variable) for slot in value)
    )


def _take_slot(state, shape, take, name):
    """Cut one slot, or `None` where its shape is not its variable's or lacks one of the last axes."""
    shape = tuple(shape)
    if state.ndim == 0:
        return state
    if state.shape == shape:
        return take(state)
    for factored, axis in (("_r", -1), ("_c", -2)):
        without = list(shape)
        del without[axis]
        if name == factored and state.shape == tuple(without):
            return np.take(take(np.repeat(np.expand_dims(state, axis), shape[axis], axis)), 0, axis)
    return None


def _trainables(optimizer):
    if not hasattr(optimizer, "_trainable_variables"):
        raise unexpected("Optimizer", "_trainable_variables")
    return optimizer._trainable_variables
