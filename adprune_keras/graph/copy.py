"""One copier of Keras graphs, which never touches the model that it copies.

`Copier` goes through one level of a graph, call by call. `StandIns` makes a copy that runs the layers
of the model. `NewLayers` makes a copy that has new layers. Their subclasses say what becomes of an
operation and of a call, and whether a nested model is opened.
"""

import inspect
from dataclasses import dataclass

import keras
from keras import tree


class Copier:
    """Copies a graph level by level; each nested model is one level."""

    def copy(self, model, path="", inputs=None):
        """Return the copy of one level.

        Args:
            model: Functional or built Sequential `keras.Model`.
            path: the names of the models around this one and its own name: `"backbone/stem/"`. Empty
                for the outermost.
            inputs: structure of `keras.KerasTensor` as the model's inputs, or `None` for new ones.

        Returns:
            A Functional `keras.Model`.

        Raises:
            ValueError: the model has no graph.
        """
        return keras.models.clone_model(
            as_functional(model),
            input_tensors=inputs,
            clone_function=lambda op: self.replace(op, path),
            call_function=lambda new, *args, **kwargs: self.call(new, path, args, kwargs),
        )

    def replace(self, op, path):
        """Return what takes the place of an operation of the level at `path`."""
        raise NotImplementedError

    def call(self, new, path, args, kwargs):
        """Return what takes the place of a call's output; `new` is what `replace` has returned."""
        return new(*args, **kwargs)


class StandIns(Copier):
    """Copies a graph with stand-ins for its operations, nested models included.

    Args:
        phase: `Phase` that the copy runs in, or `None` for inference.
    """

    def __init__(self, phase=None):
        self.phase = phase or Phase()

    def replace(self, op, path):
        """Return a stand-in."""
        return StandIn(op, phase=self.phase)


class NewLayers(Copier):
    """Copies a graph with new layers. What is called more than once is copied once.

    Nested models stay nested. A subclass says what becomes of a layer.

    Attributes:
        made: `{key: (operation or nested model, its copy)}`.
    """

    def __init__(self):
        self.made = {}

    def replace(self, op, path):
        """Return the copy of a layer or nested model."""
        key = self.key(op, path)
        if key not in self.made:
            new = self.nested(op, path) if is_nested(op) else self.layer(op, path)
            self.made[key] = op, new
        return self.made[key][1]

    def key(self, op, path):
        """Return what an operation goes by: its name within the whole model."""
        return path + op.name

    def layer(self, op, path):
        """Return the copy of an operation that is not a nested model."""
        raise NotImplementedError

    def nested(self, op, path):
        """Return the copy of a nested model."""
        return self.copy(op, f"{path}{op.name}/")


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


def tensors_in(structure):
    """Return the symbolic tensors in a nested structure, as a tuple."""
    return tuple(t for t in tree.flatten(structure) if isinstance(t, keras.KerasTensor))
