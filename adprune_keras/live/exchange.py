"""Puts a rebuilt graph into a compiled model while it trains, in place.

The only module that touches private Keras attributes, because Keras has no public way to change the
graph of a model that somebody else holds. Written against Keras 3.15; `_move` and `Meter.attach` fail
with the installed version in the message where an attribute is no longer there.
"""

import inspect

import keras
from keras import tree

from adprune_keras.live.keras_private import scope, unexpected
from adprune_keras.live.optimizer import inherit_state

# What `keras.Function.__init__` derives from inputs and outputs: the graph, and nothing of `compile`.
_GRAPH = (
    *("_inputs", "_outputs", "_inputs_struct", "_outputs_struct"),
    *("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth"),
    "output_names",
)


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
                inherit_state(before, net.optimizer, origins)
    # What `compile` was given would keep the old net alive, and be written into files.
    if hasattr(model, "_compiled_trainable_state"):
        del (
            model._compiled_trainable_state
        )  # TensorFlow's own tracking forgets it so, not if overwritten
        model._compiled_trainable_state = {layer: layer.trainable for layer in model._flatten_layers()}
    if hasattr(getattr(model, "_compile_config", None), "config"):
        model._compile_config.config["optimizer"] = net.optimizer
    remake_functions(model)


def _move(source, target):
    """Move the graph of one model into another; both keep sharing the layers."""
    sequential = isinstance(target, keras.Sequential)
    # A Sequential is its list of layers and the Functional that it built from them.
    names = ("_layers", "_functional") if sequential else _GRAPH
    for name in names:
        if not hasattr(source, name) or not hasattr(target, name):
            raise unexpected(type(target).__name__, name)
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


def remake_functions(model):
    """Keras looks these up at every step and call, so made again they hold for the next one."""
    model.make_train_function(force=True)
    model.test_function = None
    model.predict_function = None


def release_graphs(graphs):
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
