"""The loop of `fit`: where it starts, what it skips, who takes part."""

import gc
import time

from keras import callbacks, ops
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from adprune_keras.live.keras_private import scope, unexpected


def time_first_step(model, report):
    """Call `report(seconds)` after the next training step: it traces and compiles a function made again.

    Keras looks the train function up at every step, so the stand-in serves for one.
    """
    function = model.train_function

    def timed(*args):
        model.train_function = function
        begin = time.perf_counter()
        result = function(*args)
        report(time.perf_counter() - begin)
        return result

    model.train_function = timed


def skip_steps(model, steps, logs):
    """Let the next calls of the train function only draw their batches, and put it back.

    Returns:
        A function that builds the metrics that were compiled, if need be, from the last batch.

    Args:
        model: the `keras.Model` that trains.
        steps: int, calls of the train function.
        logs: dict, what each of them returns.
    """
    function, left, last = model.train_function, steps, []

    def skipped(*args):
        nonlocal left
        *state, source = args  # JAX hands the state of the loop through
        # PyTorch's batches are drawn already.
        batches = source if isinstance(source, list) else [next(source)]
        if source is not batches:
            batches += [next(source) for _ in range(model.steps_per_execution - 1)]
        left -= 1
        if not left:
            last.extend(batches[-1:])
            model.train_function = function
        return (dict(logs), *state) if state else dict(logs)

    def build_metrics():
        metrics = getattr(model, "_compile_metrics", None)
        if metrics is not None and not metrics.built:
            if not hasattr(model, "_symbolic_build"):
                raise unexpected("model", "_symbolic_build")
            with scope(model):
                model._symbolic_build(data_batch=last[0])

    model.train_function = skipped
    return build_metrics


def start_from(model, epoch):
    """Let the `fit` that begins start from an epoch; `None`: as its arguments say."""
    if not hasattr(model, "_initial_epoch"):
        raise unexpected("model", "_initial_epoch")
    model._initial_epoch = epoch


def siblings(callback):
    """Return the callbacks of the `fit` that a callback takes part in, itself among them.

    Keras tells no callback of the others. History tells this `fit` from earlier ones.
    """
    lists = (thing for thing in gc.get_objects() if type(thing) is callbacks.CallbackList)
    ours = (each.callbacks for each in lists if callback in each.callbacks)
    return list(next((each for each in ours if callback.model.history in each), [callback]))


def global_seeds():
    """Return the state of Keras' global seed generator, which random functions without a seed use.

    `None` before anything has used it: it draws on Python's random numbers when it is made.
    """
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return None if generator is None else ops.convert_to_numpy(generator.state)


def set_global_seeds(state):
    """Put back what `global_seeds` returned."""
    if state is not None:
        seed_generator.global_seed_generator().state.assign(state)
