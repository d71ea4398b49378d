"""The same network at other widths: a new functional graph, with new or inherited weights."""

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops, tree
from numpy.typing import ArrayLike

from adprune_keras.graph.choices import WEIGHTS, Shortcuts, Weights
from adprune_keras.graph.copy import NewLayers, as_functional, tensors_in
from adprune_keras.graph.cut import Cut, choose
from adprune_keras.graph.groups import PROJECTION, find_groups

_POINTWISE = {3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}


def resize(
    model: keras.Model,
    widths: Mapping[str, int],
    weights: Weights = "random",
    densities: Mapping[str, ArrayLike] | None = None,
    shortcuts: Shortcuts = "project",
    seed: int | None = None,
) -> keras.Model:
    """Rebuild a model at new widths; the model itself is untouched.

    Layer names, order and all other settings stay. With `shortcuts="project"`, where an Add's inputs
    no longer agree the one that the other is computed from (an identity shortcut) gets a 1x1
    projection + BN, named after the Add: `stage1_block1_add` -> `stage1_block1_shortcut_conv`,
    `stage1_block1_shortcut_bn`. The factories build a residual network at these widths in the same way.

    Args:
        model: Functional or built Sequential `keras.Model`.
        widths: `{layer name: width}`, ints; names as `layer_widths(model, shortcuts)` lists them.
            Layers left out keep their width.
        weights: `"random"` (default, the paper's): all weights are new ones. `"inherit"`: the
            channels that stay keep their kernels, biases and statistics, so that the new net
            computes what the old one does with the other channels zero at their ReLU. Projections
            that are inserted pass the channels that stay as they are.
        densities: `{layer name: density of each channel, shape (C,)}`, as `activation_density` returns
            them: the densest channels stay. Any other numbers will do; the highest stay. `None`
            (default): those that stay are chosen at random. For `"inherit"` only.
        shortcuts: `"project"` (default, the paper's) or `"couple"`: all layers that an Add ties together
            have one width and the topology stays as it is.
        seed: int or `None`. With a seed the new weights and the random choice are the same each
            time, whatever the global random state; `None` (default) draws them from it.

    Returns:
        A new `keras.Model`, not compiled: Sequential for a Sequential, else Functional.

    Raises:
        ValueError: unknown or fixed layer, a width that the layer cannot have, densities that do not
            fit, or no graph.

    Example:
    >>> small = resize(models.VGG19(), {"block1_conv1": 18, "block1_conv2": 23})
    """
    return rebuild(model, find_groups(model, shortcuts), widths, weights, densities, seed).model


@dataclass(frozen=True)
class Rebuilt:
    """A resized model, and which old variable each of its variables comes from.

    Attributes:
        model: the new `keras.Model`.
        origins: list of (old variable, new variable, function that cuts an array of the old
            variable's shape to the new one's); empty with random weights.
    """

    model: keras.Model
    origins: list


def rebuild(model, groups, widths, weights="random", densities=None, seed=None, kept=None):
    """Do the work of `resize` for groups that are known already; return a `Rebuilt`.

    With `kept`, `{layer name: sorted indices}`, these channels stay, whatever the densities.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {WEIGHTS}. Received: weights={weights!r}")
    cut = Cut(groups, widths)
    if weights == "inherit":
        if kept is None:
            kept = choose(groups, cut.widths, densities, seed)
        cut = Cut(groups, widths, kept)
    builder = _Builder(model, groups, cut, seed)
    new = builder.copy(model)
    return Rebuilt(new, _fill(builder, groups, cut))


class _Builder(NewLayers):
    """Builds the new graph; a Sequential stays one."""

    def __init__(self, model, groups, cut, seed):
        super().__init__()
        self.groups, self.cut, self.seed = groups, cut, seed
        norms = [c.op for c in groups.trace.calls if isinstance(c.op, layers.BatchNormalization)]
        self.norm = BATCH_NORM
        if norms:
            self.norm = {"momentum": norms[0].momentum, "epsilon": norms[0].epsilon}
        self.taken = {}  # path -> names that operations have there
        self.projections = []  # (convolution, BN, channels in, channels out)

    def copy(self, model, path="", inputs=None):
        """Return the new model; `path` is that of a nested one."""
        plain = as_functional(model)
        inputs = self._inputs(plain, path)
        if isinstance(model, keras.Sequential):
            made = [self.replace(op, path) for op in model.layers]
            return keras.Sequential([inputs, *made], name=model.name)
        self.taken[path] = {op.name for op in plain.operations}
        return super().copy(plain, path, inputs)

    def nested(self, op, path):
        """Return the new nested model, frozen where the old one is."""
        new = super().nested(op, path)
        if not op.trainable:
            new.trainable = False
        return new

    def layer(self, op, path):
        """Return the layer at its new width."""
        config, name = op.get_config(), path + op.name
        for key, channels in self.groups.settings.get(name, {}).items():
            if isinstance(key, tuple):  # one entry of a shape
                shape = list(config[key[0]])
                shape[key[1]] = self.cut.size(channels)
                config[key[0]] = tuple(shape)
            else:
                config[key] = self.cut.size(channels)
        return type(op).from_config(_seeded(config, name, self.seed))

    def call(self, new, path, args, kwargs):
        """Call a layer; where it is an Add, with projections on its shortcuts if need be."""
        found = self.groups.sums.get(path + new.name)
        if found is not None:
            flat, shortcuts = tree.flatten(args), iter(found.inputs)
            taken = self.taken[path]
            flat = [
                self._shortcut(new, x, next(shortcuts), found, taken) if tensors_in(x) else x
                for x in flat
            ]
            args = tree.pack_sequence_as(args, flat)
        return new(*args, **kwargs)

    def _inputs(self, plain, path):
        """Return new inputs in the structure of the model's, under the same names."""
        old = {id(x.output): x for x in plain.layers if isinstance(x, layers.InputLayer)}
        channels = iter(self.groups.inputs.get(path.removesuffix("/")) or [None] * len(plain.inputs))

        def new(x):
            shape, follows = list(x.shape), next(channels)
            if follows is not None:
                shape[follows[0]] = self.cut.size(follows[1])
            layer = old[id(x)]
            return keras.Input(
                batch_shape=tuple(shape),
                dtype=x.dtype,
                sparse=x.sparse,
                name=layer.name,
                optional=layer.optional,
            )

        return tree.map_structure(new, plain.input)

    def _shortcut(self, add, x, channels, found, taken):
        """Return `x` as it can be added: behind a 1x1 convolution (or Dense) and BN where needed."""
        if channels is None or not self.cut.differs(channels, found.out):
            return x
        axis, width = found.axis, self.cut.size(found.out)
        base = add.name.removesuffix("_add")
        names = (base + PROJECTION.format(n) for n in itertools.chain([""], itertools.count(2)))
        name = next(n for n in names if not {n, _norm_name(n)} & taken)
        taken |= {name, _norm_name(name)}
        settings = {"use_bias": False, "kernel_initializer": "he_normal", "name": name}
        dtype = getattr(add, "dtype_policy", None)
        last = axis == len(x.shape) - 1
        if len(x.shape) in _POINTWISE:
            settings["data_format"] = "channels_last" if last else "channels_first"
            conv = _POINTWISE[len(x.shape)](width, 1, dtype=dtype, **settings)
        else:
            conv = layers.Dense(width, dtype=dtype, **settings)
        conv = type(conv).from_config(_seeded(conv.get_config(), name, self.seed))
        axis = -1 if last else axis
        norm = layers.BatchNormalization(axis=axis, **self.norm, dtype=dtype, name=_norm_name(name))
        self.projections.append((conv, norm, channels, found.out))
        return norm(conv(x))


def _fill(builder, groups, cut):
    """Copy the old layers' state into the new ones; return where each variable comes from.

    With random weights only state that training never changes is copied, such as the statistics of a
    Normalization layer.
    """
    origins = []
    for name, op in {call.name: call.op for call in groups.trace.calls}.items():
        weights, new = getattr(op, "weights", ()), builder.made[name][1]
        ruled = any((name, w.name) in groups.weights for w in weights)
        if weights and not ruled and (cut.inherits or not op.trainable_variables):
            store = {}
            op.save_own_variables(store)
            # Copies: JAX gives shared arrays away in the next step, and the old net may come back.
            new.load_own_variables({key: ops.convert_to_numpy(v) for key, v in store.items()})
        if not cut.inherits:
            continue
        for old_weight, new_weight in zip(weights, getattr(new, "weights", ()), strict=True):

            def take(array, name=name, weight=old_weight.name):
                return cut.take(name, weight, array)

            if ruled:
                new_weight.assign(take(ops.convert_to_numpy(old_weight)))
            origins.append((old_weight, new_weight, take))
    if cut.inherits:
        _open_projections(builder, cut)
    return origins


def _open_projections(builder, cut):
    """Make the inserted projections pass the channels that stay as they are."""
    for conv, norm, channels, out in builder.projections:
        passes = cut.positions(channels)[:, None] == cut.positions(out)[None, :]
        conv.kernel.assign(passes.astype("float32").reshape(conv.kernel.shape))
        norm.gamma.assign(np.full(norm.gamma.shape, np.sqrt(1 + norm.epsilon)))


def _norm_name(projection):
    return projection.removesuffix("conv") + "bn"


def _seeded(config, name, seed):
    """Give each random initializer (and dropout) of a layer its own seed; without one, do nothing."""
    if seed is None:
        return config
    for key, value in config.items():
        if isinstance(value, dict) and "seed" in (value.get("config") or {}):
            value["config"]["seed"] = zlib.crc32(f"{seed}/{name}/{key}".encode()) & 0x7FFFFFFF
    if "seed" in config:
        config["seed"] = zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
    return config


# The settings of every BatchNormalization: those of the PyTorch models that the paper trained. With the
# 0.99 momentum of Keras the moving statistics lag behind in nets that train for a few hundred steps.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}
