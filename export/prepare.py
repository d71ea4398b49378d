"""The graph that ships: float32, inference only, ending in logits."""

import keras
import numpy as np
from keras import layers

from adprune_keras.trace import as_functional


def inference_model(model):
    """Return the part of a trained model that ships, sharing its weights.

    A softmax of its own at the end is left out: it does not change which class wins, and the logits
    are what int8 files and numeric checks need. The model is called once, as the converters expect.

    Args:
        model: trained Functional or built Sequential `keras.Model`, one input and one output.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: several inputs or outputs, a policy other than float32, or weights that are not
            finite.
    """
    plain = as_functional(model)
    if len(plain.inputs) != 1 or len(plain.outputs) != 1:
        raise ValueError(
            "Export takes models with one input and one output. Received: "
            f"{len(plain.inputs)} inputs and {len(plain.outputs)} outputs"
        )
    top = next(op for op in plain.operations if _makes(op, plain.outputs[0]))
    if _is_softmax(top):
        plain = keras.Model(plain.inputs[0], top.input, name=plain.name)
    for layer in plain.layers:
        if layer.dtype_policy.compute_dtype != "float32":
            raise ValueError(
                "Export takes float32 models. Received: layer "
                f"'{layer.name}' with policy '{layer.dtype_policy.name}'"
            )
    for weight in plain.weights:
        if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
            raise ValueError(f"A weight is not finite. Received: '{weight.path}' with NaN or inf")
    shape = plain.inputs[0].shape[1:]
    if None in shape:
        raise ValueError(f"Export takes models of a fixed image size. Received: input shape {shape}")
    plain(np.zeros((1, *shape), "float32"), training=False)
    return plain


def names(model):
    """Return the names that the file's input and output get: those of the Keras layers."""
    (x,) = (op.name for op in model.layers if _makes(op, model.inputs[0]))
    return x, model.output_names[0]


def _makes(op, tensor):
    try:
        return op.output is tensor
    except (AttributeError, ValueError):  # called more than once, so not the plain end of a network
        return False


def _is_softmax(op):
    if isinstance(op, layers.Softmax):
        return True
    return isinstance(op, layers.Activation) and op.activation is keras.activations.softmax
