"""The calls of a Keras graph, read through public API and without touching the model."""

from dataclasses import dataclass

import keras
from keras import tree

from adprune_keras.graph.copy import StandIns, as_functional, is_nested, tensors_in


@dataclass(frozen=True)
class Call:
    """One call of an operation in a graph or in a model nested in it.

    Attributes:
        name: the operation's name; inside a nested model with the model's before it:
            `"backbone/conv1"`. An operation that is called twice has two calls of one name.
        op: the `keras.layers.Layer` (or raw `keras.Operation`) of the model.
        args: tuple, the positional arguments; tensors among them are `keras.KerasTensor`.
        inputs: tuple of `keras.KerasTensor`, the tensors that went in.
        outputs: tuple of `keras.KerasTensor`, the tensors that came out.
    """

    name: str
    op: keras.Operation
    args: tuple
    inputs: tuple
    outputs: tuple


@dataclass(frozen=True)
class Trace:
    """All calls of a model in the order in which they can run, with its ends.

    Attributes:
        calls: tuple of `Call`.
        inputs: tuple of `keras.KerasTensor`.
        outputs: tuple of `keras.KerasTensor`.
        nested: `{name of a nested model: the tensors that it is first called with}`.
    """

    calls: tuple
    inputs: tuple
    outputs: tuple
    nested: dict

    def consumers(self):
        """Return `{id(tensor): [calls that read it]}`."""
        readers = {}
        for call in self.calls:
            for tensor in call.inputs:
                readers.setdefault(id(tensor), []).append(call)
        return readers

    def makers(self):
        """Return `{id(tensor): the call that makes it}`."""
        return {id(tensor): call for call in self.calls for tensor in call.outputs}


def trace(model):
    """List the calls of a Functional or Sequential model, nested models opened.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        A `Trace`. Its tensors are symbolic twins of the model's, with the same shapes.

    Raises:
        ValueError: `model` has no graph (a subclassed model, or a Sequential without a shape).
    """
    tracer = _Tracer()
    twin = tracer.copy(model)
    outputs = tracer.stands(tuple(twin.outputs))
    return Trace(tuple(tracer.calls), tuple(twin.inputs), outputs, tracer.opened)


class _Tracer(StandIns):
    """Notes each call of a graph.

    A nested model is opened: its graph is copied for each of its calls, beside its stand-in. Keras has
    no public way to run a graph on tensors that are not inputs, so the inner graph gets new inputs.
    `same` says for which tensor of the outer graph each of its ends stands.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.opened = [], {}
        self.same = {}  # id of a tensor -> (that tensor, kept so that its id is its own; the other)

    def stands(self, structure):
        """Return a structure with each tensor that stands for another replaced by that one."""
        return tree.map_structure(lambda t: self.same.get(id(t), (t, t))[1], structure)

    def call(self, stand_in, path, args, kwargs):
        """Note a call; open a nested model."""
        outputs, op, name = stand_in(*args, **kwargs), stand_in.op, path + stand_in.op.name
        inputs = tensors_in(self.stands((args, kwargs)))
        if not is_nested(op):
            self.calls.append(Call(name, op, self.stands(args), inputs, tensors_in(outputs)))
            return outputs
        self.opened.setdefault(name, inputs)
        inner = _inner_inputs(as_functional(op), args)
        self._same(inner, inputs)
        twin = self.copy(op, f"{name}/", inner)
        self._same(outputs, self.stands(tuple(twin.outputs)))
        return outputs

    def _same(self, tensors, others):
        pairs = zip(tensors_in(tensors), others, strict=True)
        self.same.update({id(tensor): (tensor, other) for tensor, other in pairs})


def _inner_inputs(plain, args):
    """Return new inputs for a nested model, of the shapes that it is called with."""
    shapes = [x.shape for x in tree.flatten(args[0])]
    new = [keras.Input(batch_shape=s, dtype=x.dtype) for s, x in zip(shapes, plain.inputs, strict=True)]
    return tree.pack_sequence_as(plain.input, new)
