"""The calls of a Keras graph, read through public API and without touching the model."""

from dataclasses import dataclass

import keras
from keras import tree


@dataclass(frozen=True)
class Call:
    """One call of an operation in a graph.

    Attributes:
        op: the `keras.layers.Layer` (or raw `keras.Operation`) of the model.
        inputs: tuple of `keras.KerasTensor`, the tensors that went in.
        outputs: tuple of `keras.KerasTensor`, the tensors that came out.
    """

    op: keras.Operation
    inputs: tuple
    outputs: tuple


@dataclass(frozen=True)
class Trace:
    """All calls of a model in the order in which they can run, with its ends."""

    calls: tuple
    inputs: tuple
    outputs: tuple

    def consumers(self):
        """Return `{id(tensor): [calls that read it]}`."""
        readers = {}
        for call in self.calls:
            for tensor in call.inputs:
                readers.setdefault(id(tensor), []).append(call)
        return readers


class _StandIn(keras.Operation):
    """Answers for an operation's output shapes, so that the operation itself is never called."""

    def __init__(self, op):
        super().__init__(name=op.name)
        self.op = op

    def compute_output_spec(self, *args, **kwargs):
        return self.op.compute_output_spec(*args, **kwargs)


def as_functional(model):
    """Return `model`'s graph as a plain, uncompiled Functional that shares its layers.

    Raises:
        ValueError: `model` is not a Functional or a built Sequential model.
    """
    try:
        if isinstance(model, keras.Sequential):  # one input and one output, not lists of one
            inputs, outputs = model.inputs[0], model.outputs[0]
        else:
            inputs, outputs = model.input, model.output
        if not tree.flatten(inputs) or not tree.flatten(outputs):
            raise AttributeError
    except (AttributeError, ValueError) as e:
        raise ValueError(
            "Only Functional models and Sequential models that know their input shape have a "
            "graph of layers to prune. Received: "
            f"model={getattr(model, 'name', model)!r} of type {type(model).__name__}. "
            "Rebuild a subclassed model as `keras.Model(inputs, outputs)`; start a Sequential "
            "one with `keras.Input(shape)`."
        ) from e
    return keras.Model(inputs, outputs, name=model.name)


def trace(model):
    """List the calls of a Functional or Sequential model.

    `keras.models.clone_model` walks the graph; stand-ins take the place of the layers, so nothing
    is built, no weight is made, and no node is added to the model's own layers.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        A `Trace`. Its tensors are symbolic twins of the model's, with the same shapes.

    Raises:
        ValueError: `model` has no graph (a subclassed model, or a Sequential without a shape).
    """
    calls = []

    def record(stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        calls.append(Call(stand_in.op, _tensors((args, kwargs)), _tensors(outputs)))
        return outputs

    twin = keras.models.clone_model(as_functional(model), clone_function=_StandIn, call_function=record)
    return Trace(tuple(calls), tuple(twin.inputs), tuple(twin.outputs))


def _tensors(structure):
    return tuple(t for t in tree.flatten(structure) if isinstance(t, keras.KerasTensor))
