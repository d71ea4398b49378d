"""The graph that ships: float32, inference only, ending in logits, under canonical names."""

import inspect

import keras
import numpy as np
from keras import layers, ops, tree

from adprune_keras.graph.copy import NewLayers, as_functional

INPUT, OUTPUT = "image", "logits"
# Largest difference from the trained model that a copy may show, relative to its largest output.
_SAME, _SAME_IN_HALF_PRECISION = 1e-5, 5e-2
_IDLE = (layers.Identity, layers.ActivityRegularization)


def inference_model(model, normalization=None):
    """Return a copy of a trained model as it ships.

    The copy is float32 throughout. It has no layer that only training uses: a layer without weights that
    takes `training` and returns its input in inference (dropout, noise, augmentation). A softmax at the
    end is left out: it does not change which class wins, and int8 files and numeric checks need the
    logits. Its input is named `image`. It is compared with the trained model before it is
    returned.

    Args:
        model: trained Functional or built Sequential `keras.Model`, one input and one output, of any
            float policy.
        normalization: `None`, or (mean, std) per channel in pixel units: then the copy takes pixels
            from 0 to 255 and normalises them itself.

    Returns:
        `(copy, removed)`: a `keras.Model`, and the names of the layers that were left out.

    Raises:
        ValueError: several inputs or outputs, an open image size, a quantised layer, weights that are
            not finite, or a copy that does not answer as the model does.
    """
    plain = as_functional(model)
    if len(plain.inputs) != 1 or len(plain.outputs) != 1:
        raise ValueError(
            "Export takes models with one input and one output. Received: "
            f"{len(plain.inputs)} inputs and {len(plain.outputs)} outputs"
        )
    shape = tuple(plain.inputs[0].shape[1:])
    if None in shape:
        raise ValueError(f"Export takes models of a fixed image size. Received: input shape {shape}")
    copier = _Copy()
    clean = copier.copy(plain, inputs=keras.Input(shape, name=INPUT))
    copier.fill()
    if normalization is not None:
        mean, std = (np.asarray(v, "float32") for v in normalization)
        pixels = keras.Input(shape, name=INPUT)
        scaled = layers.Rescaling(1 / std, -mean / std, name="normalization")(pixels)
        clean = keras.Model(pixels, clean(scaled), name=plain.name)
    _compare(plain, clean, shape, normalization, copier.stripped)
    return clean, copier.removed


class _Copy(NewLayers):
    """New float32 layers for old ones, shared wherever the old ones are."""

    def __init__(self):
        super().__init__()
        self.ends = {}  # path -> the output of the network, where that level makes it
        self.removed = []
        self.stripped = False

    def key(self, op, path):
        """Return the operation's identity: one layer may be in several nested models."""
        return id(op)

    def copy(self, model, path="", inputs=None, strip=True):
        """Return the copy of a graph; with `strip`, without a softmax at its end."""
        plain = as_functional(model)
        if inputs is None:
            inputs = [keras.Input(batch_shape=x.shape, dtype=_float32(x.dtype)) for x in plain.inputs]
        self.ends[path] = plain.outputs[0] if strip else None
        new = super().copy(plain, path, tree.pack_sequence_as(plain.input, tree.flatten(inputs)))
        if len(new.inputs) > 1 or len(new.outputs) > 1:
            return new
        outputs = new.outputs[0]
        top = next((op for op in new.operations if _makes(op, outputs)), None)
        if strip and _is_softmax(top):
            outputs, self.stripped = top.input, True
        return keras.Model(new.inputs[0], outputs, name=plain.name)

    def nested(self, op, path):
        """Return the copy of a nested model."""
        return self.copy(op, f"{path}{op.name}/", strip=_makes(op, self.ends[path]))

    def call(self, new, path, args, kwargs):
        """Call a layer for inference; one that does nothing there is left out."""
        kwargs.pop("training", None)
        if isinstance(new, keras.Model) and new.inputs[0] is new.outputs[0]:
            return args[0]  # all its layers were idle
        if self.is_idle(new, args):
            self.removed += [new.name] if new.name not in self.removed else []
            return args[0]
        return new(*args, **kwargs)

    def layer(self, op, path):
        """Return the float32 copy of a layer; a raw operation is its own."""
        if not isinstance(op, layers.Layer):
            return op
        if getattr(op, "quantization_mode", None):
            raise ValueError(
                f"Export quantises by itself. Received: layer '{op.name}' with dtype policy "
                f"'{op.dtype_policy.name}'. Export the model as it was before `quantize`."
            )
        config = op.get_config()
        if "dtype" in config:
            config["dtype"] = "float32"
        fused = getattr(op, "activation", None) is keras.activations.softmax
        if fused and not isinstance(op, layers.Activation) and _makes(op, self.ends[path]):
            config["activation"] = "linear"
            self.stripped = True
        return type(op).from_config(config)

    def is_idle(self, op, args):
        """True for a layer without weights that is there for training alone."""
        if not isinstance(op, layers.Layer) or not args or not hasattr(args[0], "shape"):
            return False
        trains = "training" in inspect.signature(op.call).parameters
        if not (trains or isinstance(op, _IDLE)) or any("seed" not in w.path for w in op.weights):
            return False
        shape = (2, *args[0].shape[1:])
        x = np.random.default_rng(0).normal(0, 50, shape).astype("float32")
        options = {"training": False} if trains else {}
        y = ops.convert_to_numpy(op(x, **options))
        return y.shape == x.shape and bool(np.array_equal(x, y))

    def fill(self):
        """Give the new layers the old ones' weights."""
        for old, new in self.made.values():
            if isinstance(old, keras.Model) or not isinstance(old, layers.Layer):
                continue  # a model's layers are here themselves
            values = [ops.convert_to_numpy(w).astype("float32") for w in old.weights]
            for weight, value in zip(old.weights, values, strict=True):
                if not np.all(np.isfinite(value)):
                    raise ValueError(
                        f"A weight is not finite. Received: '{weight.path}' with NaN or inf"
                    )
            if new.built or values:
                for weight, value in zip(new.weights, values, strict=True):
                    weight.assign(value)


def _compare(model, clean, shape, normalization, softmax):
    """Refuse a copy that does not answer as the model does."""
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype("float32")
    mean, std = (127.5, 64.0) if normalization is None else np.asarray(normalization, "float32")
    x = (pixels - mean) / std
    given = x if normalization is None else pixels
    expected = ops.convert_to_numpy(model(x, training=False)).astype("float32")
    answer = ops.convert_to_numpy(clean(given, training=False))
    if softmax:
        answer = ops.convert_to_numpy(ops.softmax(answer))
    exact = {layer.compute_dtype for layer in model.layers} == {"float32"}
    allowed = _SAME if exact else _SAME_IN_HALF_PRECISION
    scale = float(np.max(np.abs(expected))) or 1.0
    difference = float(np.max(np.abs(answer - expected))) / scale
    if not difference <= allowed:
        raise ValueError(
            f"The inference graph of model '{model.name}' does not answer as the model does: it differs "
            f"by {difference:.1e} of the largest output, allowed {allowed:.0e}. A layer that behaves "
            "at random in inference, or changes its answer from call to call, cannot be exported."
        )


def _float32(dtype):
    return "float32" if "float" in str(dtype) else dtype


def _makes(op, tensor):
    try:
        return op.output is tensor
    except (AttributeError, ValueError):  # called more than once, so not the plain end of a network
        return False


def _is_softmax(op):
    if isinstance(op, layers.Softmax):
        return True
    return isinstance(op, layers.Activation) and op.activation is keras.activations.softmax
