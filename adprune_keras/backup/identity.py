"""What a model and an optimizer are, as plain data that two runs can compare."""

import hashlib
import json
import re

import keras


def layers_of(model, prefix=""):
    """`{path of a layer: its class, the shapes of its weights, a digest of its settings}`."""
    found = {f"{prefix}inputs": str([tuple(x.shape) for x in model.inputs])}
    for layer in model.layers:
        name = prefix + layer.name
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.Model):
            found |= layers_of(layer, name + "/")
            continue
        shapes = ", ".join(str(tuple(w.shape)) for w in layer.weights)
        try:
            config = layer.get_config()
        except NotImplementedError:  # a user's own layer that was never to be saved
            config = {}
        found[name] = f"{type(layer).__name__}({shapes}) {_digest(config)}"
    return found


def optimizer_of(optimizer):
    """An optimizer's class and settings, as plain data; objects by their class alone."""
    return {"class": type(optimizer).__name__, **_plain(optimizer.get_config())}


def _digest(config):
    text = json.dumps(_plain(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plain(value):
    """Plain data of a config without seeds, as what they made is saved, and without names.

    Keras numbers names within a process; those of layers are compared apart.
    """
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if k not in ("seed", "name")}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return re.sub(r" at 0x\w+", "", str(type(value)))
