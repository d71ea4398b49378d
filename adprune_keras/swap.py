"""Puts a rebuilt graph into a compiled model while it trains, in place.

The only module that touches private Keras attributes, because Keras has no public way to change the
graph of a model that somebody else holds. Written against Keras 3.15; `_move` and `Meter.attach` fail
with the installed version in the message where an attribute is no longer there.
"""

import contextlib
import gc
import inspect
import time
import warnings

import keras
import numpy as np
from keras import callbacks, layers, ops, tree
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from adprune_keras.density import density_model, merge

# What `keras.Function.__init__` derives from inputs and outputs: the graph, and nothing of `compile`.
_GRAPH = (
    *("_inputs", "_outputs", "_inputs_struct", "_outputs_struct"),
    *("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth"),
    "output_names",
)
# Lists of an optimizer that are no slots: all its variables, and the model's.
_NO_SLOTS = ("_variables", "_trainable_variables")


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


class Net:
    """One net of a run: its graph with its weights, and the optimizer that trains it.

    Kept aside while another net trains, it is all that a rollback needs.
    """

    def __init__(self, graph, optimizer):
        self.graph = graph
        self.optimizer = optimizer


def current_net(model):
    """Return the `Net` that a model holds now; later changes of the model do not reach its graph."""
    graph = keras.Sequential() if isinstance(model, keras.Sequential) else None
    if graph is None:
        graph = keras.Model(model.input, model.output, name=model.name)
    else:
        _move(model, graph)
    return Net(graph, model.optimizer)


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


def swap(model, net, origins=()):
    """Make `net` the graph and the optimizer of `model`, in place.

    Loss, metrics and all else that `compile` set stay as they are. The optimizer is built on the
    new variables before the functions are made again: JAX takes its state from it there.

    Args:
        model: the compiled `keras.Model` that trains.
        net: `Net` whose graph has the same inputs and outputs.
        origins: where the net's variables come from (`Rebuilt.origins`): the optimizer that is not built
            yet then goes on from the state of the model's. Empty (default): it starts afresh.
    """
    before = model.optimizer
    with scope(model):
        _move(net.graph, model)
        model.optimizer = net.optimizer
        if not net.optimizer.built:
            net.optimizer.build(model.trainable_variables)
            if origins:
                _inherit_state(before, net.optimizer, origins)
    # What `compile` was given would keep the old net alive, and be written into files.
    if hasattr(model, "_compiled_trainable_state"):
        del (
            model._compiled_trainable_state
        )  # TensorFlow's own tracking forgets it so, not if overwritten
        model._compiled_trainable_state = {layer: layer.trainable for layer in model._flatten_layers()}
    if hasattr(getattr(model, "_compile_config", None), "config"):
        model._compile_config.config["optimizer"] = net.optimizer
    _remake_functions(model)


def _inherit_state(old, new, origins):
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
        raise _unexpected("Optimizer", "_trainable_variables")
    return optimizer._trainable_variables


class Meter:
    """Measures density inside a model's own training step.

    The model's `call` is replaced, on this one object, by a pass through the auxiliary-output model
    that shares its layers: in training it adds the step's positives to one variable on the device.
    The model's graph, config and files never show it. The variable hangs on the input layer, where
    Keras finds it among the model's variables (JAX carries it through the step) and saving does not.
    """

    def __init__(self, model, groups=None, places=None):
        self.model = model
        self.aux, self.parts = density_model(model, groups, places)
        size = sum(part.channels + 1 for part in self.parts)
        with scope(model):
            self.state = _Sums(size)
        self.graphs = set()  # TensorFlow's, traced while this was attached

    def attach(self):
        """Start measuring; the train function is made again."""
        self._remove()  # whatever a `fit` that broke off has left
        self._holder()._layers.append(self.state)  # not `layers`: it must not be part of the graph
        inner = type(self.model).call

        def call(inputs, training=None, mask=None, **kwargs):
            self._note_graph()
            if not training:
                return inner(self.model, inputs, training=training, mask=mask, **kwargs)
            self.aux.phase.training = training
            result = self.aux.call(inputs, training=training, mask=mask, **kwargs)
            self.state.add(result["positives"])
            return result["outputs"]

        vars(self.model)["call"] = call  # past Keras' own __setattr__, which tracks attributes
        _remake_functions(self.model)  # by now: JAX takes the shardings of all variables there

    def detach(self):
        """Stop measuring and leave no trace; the train function is made again."""
        self._remove()
        _remake_functions(self.model)
        _release(self.graphs)
        self.graphs.clear()

    def _remove(self):
        holder = self._holder()
        holder._layers[:] = [layer for layer in holder._layers if not isinstance(layer, _Sums)]
        vars(self.model).pop("call", None)

    def reset(self):
        """Forget what was measured: a new epoch begins."""
        self.state.sums.assign(np.zeros(self.state.sums.shape, "float32"))

    def read(self):
        """Return the `Density` since `reset`: the one transfer from the device in an epoch."""
        return merge(self.parts, ops.convert_to_numpy(self.state.sums))

    def _note_graph(self):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if not tf.executing_eagerly():
                self.graphs.add(tf.compat.v1.get_default_graph())

    def _holder(self):
        inputs = tree.flatten(self.model.inputs)
        for layer in _graph_of(self.model).layers:
            if isinstance(layer, layers.InputLayer) and any(layer.output is x for x in inputs):
                if not isinstance(getattr(layer, "_layers", None), list):
                    raise _unexpected("InputLayer", "_layers")
                return layer
        raise _unexpected("model", "input layer")


class _Sums(layers.Layer):
    """The accumulator: positives per channel, then places, for each ReLU in turn."""

    def __init__(self, size):
        super().__init__(name="adprune_density", dtype="float32")
        self.sums = self.add_weight(
            shape=(size,),
            initializer="zeros",
            trainable=False,
            aggregation="mean",  # over replicas; it adds to the old value, which a sum would double
            autocast=False,  # half precision cannot count so far
            name="sums",
        )
        self.built = True

    def add(self, positives):
        self.sums.assign_add(ops.concatenate(positives))


def _graph_of(model):
    return model._functional if isinstance(model, keras.Sequential) else model


def _move(source, target):
    """Move the graph of one model into another; both keep sharing the layers."""
    sequential = isinstance(target, keras.Sequential)
    # A Sequential is its list of layers and the Functional that it built from them.
    names = ("_layers", "_functional") if sequential else _GRAPH
    for name in names:
        if not hasattr(source, name) or not hasattr(target, name):
            raise _unexpected(type(target).__name__, name)
    old = _sublayers(target)
    if sequential:
        target._layers, target._functional = source._layers, source._functional
        target.built = True
    else:
        vars(target).update({name: vars(source)[name] for name in names})
        for name in names:  # TensorFlow's own list of what a model holds, for its checkpoints
            if name in getattr(target, "_self_unconditional_dependency_names", ()):
                target._track_trackable(vars(source)[name], name, overwrite=True)
    # The tracker keeps the list of sublayers; layers that the user attached beside the graph stay.
    for layer in old:
        target._tracker.untrack(layer)
    for layer in _sublayers(target):
        target._tracker.track(layer)
    if keras.backend.backend() == "torch":
        target._track_variables()  # torch's own list of parameters


def _sublayers(model):
    if isinstance(model, keras.Sequential):
        return [*model._layers, *([model._functional] if model._functional is not None else [])]
    return model.layers


def _remake_functions(model):
    """Keras looks these up at every step and call, so made again they hold for the next one."""
    model.make_train_function(force=True)
    model.test_function = None
    model.predict_function = None


def _release(graphs):
    """Make TensorFlow let go of graphs that no function runs any more, and of the variables in them.

    TensorFlow 2.21 keeps the gradient of each custom-gradient operation for ever, and with it the graph
    that it was traced in (tensorflow/tensorflow#97697): Keras' optimizers put one into every train
    step. Where later versions hold no `result` there, there is nothing to do.
    """
    if not graphs:
        return
    from tensorflow.python.framework import ops as framework

    registry = getattr(framework.gradient_registry, "_registry", {})
    for name, entry in list(registry.items()):
        if name.startswith("CustomGradient-"):
            gradient = _captured(entry.get("type")).get("tape_grad_fn")
            results = tree.flatten(_captured(gradient).get("result"))
            if any(getattr(result, "graph", None) in graphs for result in results):
                del registry[name]


def _captured(function):
    return inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}


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


def scope(model):
    """Return the scope that variables of a distributed TensorFlow model must be made in, or none."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _unexpected(owner, name):
    return RuntimeError(
        f"Keras {keras.__version__} keeps no `{name}` on {owner}, where Keras 3.15 does, so a model "
        "cannot be changed while it trains. Install the Keras version named in setup.cfg, "
        "and please report this."
    )


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
                raise _unexpected("model", "_symbolic_build")
            with scope(model):
                model._symbolic_build(data_batch=last[0])

    model.train_function = skipped
    return build_metrics


def start_from(model, epoch):
    """Let the `fit` that begins start from an epoch; `None`: as its arguments say."""
    if not hasattr(model, "_initial_epoch"):
        raise _unexpected("model", "_initial_epoch")
    model._initial_epoch = epoch


def siblings(callback):
    """Return the callbacks of the `fit` that a callback takes part in, itself among them.

    Keras tells no callback of the others. History tells this `fit` from earlier ones.
    """
    lists = (thing for thing in gc.get_objects() if type(thing) is callbacks.CallbackList)
    ours = (each.callbacks for each in lists if callback in each.callbacks)
    return list(next((each for each in ours if callback.model.history in each), [callback]))


def callback_state(callback):
    """Return what one of Keras' own callbacks keeps from epoch to epoch, as `{attribute: value}`."""
    names = _kept_by(callback)
    for name in names:
        if not hasattr(callback, name):
            raise _unexpected(type(callback).__name__, name)
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
