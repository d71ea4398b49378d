"""Measures density inside a model's own training step."""

import keras
import numpy as np
from keras import layers, ops, tree

from adprune_keras.density.auxiliary import density_model
from adprune_keras.density.numbers import merge
from adprune_keras.live.exchange import release_graphs, remake_functions
from adprune_keras.live.keras_private import scope, unexpected


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
        remake_functions(self.model)  # by now: JAX takes the shardings of all variables there

    def detach(self):
        """Stop measuring and leave no trace; the train function is made again."""
        self._remove()
        remake_functions(self.model)
        release_graphs(self.graphs)
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
                    raise unexpected("InputLayer", "_layers")
                return layer
        raise unexpected("model", "input layer")


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
