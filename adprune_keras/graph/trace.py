"""The calls of a Keras graph, read through public API and without touching the model."""

import inspect
from dataclasses import dataclass

import keras
from keras import tree


@dataclass(frozen=True)
class Call:
    """One call of an operation in a graph, those inside nested models included.

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


@dataclass
class Phase:
    """Whether a copy of a graph runs for training. All its stand-ins look here."""

    training: bool = False


class StandIn(keras.Operation):
    """Takes an operation's place in a copy of the graph.

    It answers for output shapes and runs the operation, but the operation itself never learns of
    the copy: no node is added to the model's own layers.
    """

    def __init__(self, op, name=None, phase=None):
        super().__init__(name=name or op.name)
        self.op = op
        self.phase = phase or Phase()
        self.asks = isinstance(op, keras.Layer) and "training" in inspect.signature(op.call).parameters

    def call(self, *args, **kwargs):
        """Run the operation, with the phase in place of any `training` in the graph, as Keras does."""
        kwargs.pop("training", None)
        if self.asks:
            kwargs["training"] = self.phase.training
        return self.op(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        """Return the operation's output shapes and dtypes."""
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
        if not type(model).call.__module__.startswith("keras."):
            raise AttributeError  # with a `call` of its own, the graph is not what it computes
    except (AttributeError, ValueError) as e:
        raise ValueError(
            "Only Functional models and Sequential models that know their input shape have a "
            "graph of layers to prune. Received: "
            f"model={getattr(model, 'name', model)!r} of type {type(model).__name__}. "
            "Rebuild a subclassed model as `keras.Model(inputs, outputs)`; start a Sequential "
            "one with `keras.Input(shape)`."
        ) from e
    return keras.Model(inputs, outputs, name=model.name)


def is_nested(op):
    """True where `op` is a model whose graph can be read."""
    if not isinstance(op, keras.Model):
        return False
    try:
        as_functional(op)
    except ValueError:
        return False
    return True


def replay(plain, call, inputs=None, phase=None):
    """Run a graph again, symbolically, with stand-ins in place of its operations.

    Args:
        plain: Functional `keras.Model`, as `as_functional` returns it.
        call: called as `call(stand_in, *args, **kwargs)` for each call in order; what it returns
            takes the place of the call's output.
        inputs: structure of `keras.KerasTensor` as the model's inputs, or `None` for new ones.
        phase: `Phase` that the copy runs in, or `None` for inference.

    Returns:
        The new `keras.Model`.
    """
    return keras.models.clone_model(
        plain,
        input_tensors=inputs,
        clone_function=lambda op: StandIn(op, phase=phase),
        call_function=call,
    )


def trace(model):
    """List the calls of a Functional or Sequential model, nested models opened.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        A `Trace`. Its tensors are symbolic twins of the model's, with the same shapes.

    Raises:
        ValueError: `model` has no graph (a subclassed model, or a Sequential without a shape).
    """
    calls, nested = [], {}
    twin = _trace(as_functional(model), "", None, calls, nested)
    return Trace(tuple(calls), tuple(twin.inputs), tuple(twin.outputs), nested)


def _inner_inputs(plain, args):
    """New inputs for a nested model, of the shapes that it is called with."""
    shapes = [x.shape for x in tree.flatten(args[0])]
    new = [keras.Input(batch_shape=s, dtype=x.dtype) for s, x in zip(shapes, plain.inputs, strict=True)]
    return tree.pack_sequence_as(plain.input, new)


def _trace(plain, prefix, inputs, calls, nested):
    """Trace one graph into `calls`; the tensors of nested graphs go by their outer twins' place."""
    same = {}  # id of an inner or outer twin -> the tensor that stands for both
    keep = []  # ids stay unique only while their tensors live

    def stands(structure):
        return tree.map_structure(
            lambda t: same.get(id(t), t) if isinstance(t, keras.KerasTensor) else t, structure
        )

    def record(stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        name, op = prefix + stand_in.op.name, stand_in.op
        ins = tensors_in(stands((args, kwargs)))
        if not is_nested(op):
            calls.append(Call(name, op, stands(args), ins, tensors_in(outputs)))
            return outputs
        nested.setdefault(name, ins)
        inner_calls, graph = [], as_functional(op)
        twin = _trace(graph, name + "/", _inner_inputs(graph, args), inner_calls, nested)
        keep.append(twin)
        same.update({id(t): outer for t, outer in zip(twin.inputs, ins, strict=True)})
        for c in inner_calls:
            calls.append(Call(c.name, c.op, stands(c.args), stands(c.inputs), c.outputs))
        inner = stands(tuple(twin.outputs))
        same.update({id(t): i for t, i in zip(tensors_in(outputs), inner, strict=True)})
        keep.append(outputs)
        return outputs

    twin = replay(plain, record, inputs)
    return _Twin(tuple(twin.inputs), stands(tuple(twin.outputs)), keep)


@dataclass(frozen=True)
class _Twin:
    inputs: tuple
    outputs: tuple
    keep: list


def tensors_in(structure):
    """Return the symbolic tensors in a nested structure, as a tuple."""
    return tuple(t for t in tree.flatten(structure) if isinstance(t, keras.KerasTensor))
