"""Random CNN graphs, and the dense network with channels zeroed at their ReLU."""

import itertools

import keras
import numpy as np
from keras import layers, ops

from adprune_keras.graph.copy import StandIn, StandIns, is_nested
from adprune_keras.graph.walk import FIXED_WIDTH


class Generator:
    """Builds one functional CNN from a seed: branches, adds, concats and whatever else `steps` names."""

    steps = (
        *("conv", "conv", "conv_bn", "residual", "residual", "preactivation", "dense_block"),
        *("depthwise", "grouped", "depthwise_by_groups", "separable", "transposed", "squeeze_excite"),
        *("gate_before_relu", "shared", "shared_norm", "nested", "nested_twice", "nested_sequential"),
        *("sum_of_concat", "merge", "spatial", "raw", "prelu", "group_norm", "relu_then_norm"),
        *("side_output", "inverted_residual", "reshape", "spatial_gate"),
    )

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.count = itertools.count()
        self.size = int(self.rng.integers(5, 8))
        self.sides = []
        inputs = x = keras.Input((self.size, self.size, int(self.rng.integers(1, 4))), name="image")
        x = self.conv_bn(x)
        for step in self.taken(seed):
            x = getattr(self, step)(x)
        outputs = [self.head(t) for t in (*self.sides, x)]
        self.model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="random")
        scramble(self.model, self.rng)

    @classmethod
    def taken(cls, seed, length=6):
        """Return the steps of a seed's graph, without building it."""
        return np.random.default_rng([seed, length]).choice(cls.steps, length).tolist()

    def width(self):
        return int(self.rng.integers(2, 5)) * 2

    def name(self, kind):
        return f"{kind}_no{next(self.count)}"

    def activation(self, x):
        choice = self.rng.integers(4)
        if choice == 0:
            return layers.Activation("relu6", name=self.name("relu"))(x)
        return keras.ops.relu(x) if choice == 1 else layers.ReLU(name=self.name("relu"))(x)

    def norm(self, x):
        scale, center = self.rng.random(2) < 0.8
        return layers.BatchNormalization(scale=scale, center=center, name=self.name("bn"))(x)

    def bare_conv(self, x, width=None, activation=None, kernel=None):
        kernel = kernel or int(self.rng.choice([1, 3]))
        bias = bool(self.rng.random() < 0.5)
        return layers.Conv2D(
            width or self.width(),
            kernel,
            padding="same",
            use_bias=bias,
            activation=activation,
            name=self.name("conv"),
        )(x)

    def conv(self, x, width=None):
        return self.bare_conv(x, width, activation="relu")

    def conv_bn(self, x, width=None):
        return self.activation(self.norm(self.bare_conv(x, width)))

    def residual(self, x):
        y = self.norm(self.bare_conv(self.conv_bn(x), x.shape[-1]))
        shortcut = self.norm(self.bare_conv(x, x.shape[-1])) if self.rng.random() < 0.3 else x
        return self.activation(layers.Add(name=self.name("add"))([shortcut, y]))

    def preactivation(self, x):
        x = stream = self.bare_conv(x)
        for _ in range(2):
            y = self.bare_conv(self.activation(self.norm(stream)), x.shape[-1])
            stream = layers.Add(name=self.name("pre_add"))([stream, y])
        return self.activation(self.norm(stream))

    def inverted_residual(self, x):
        y = self.depthwise(self.conv_bn(x, 3 * x.shape[-1]))
        y = self.norm(self.bare_conv(y, x.shape[-1], kernel=1))
        return layers.Add(name=self.name("add"))([x, y])

    def dense_block(self, x):
        for _ in range(2):
            y = self.bare_conv(self.activation(self.norm(x)))
            x = layers.Concatenate(name=self.name("concat"))([x, y])
        return self.activation(self.norm(x))

    def depthwise(self, x):
        multiplier = int(self.rng.integers(1, 3))
        bias = bool(self.rng.random() < 0.5)
        x = layers.DepthwiseConv2D(
            3, padding="same", depth_multiplier=multiplier, use_bias=bias, name=self.name("depthwise")
        )(x)
        return self.activation(self.norm(x))

    def depthwise_by_groups(self, x):
        width = x.shape[-1]
        x = layers.Conv2D(2 * width, 3, padding="same", groups=width, name=self.name("by_groups"))(x)
        return self.activation(x)

    def grouped(self, x):
        x = self.conv_bn(x, 8)
        conv = layers.Conv2D(
            12, 3, padding="same", groups=2, activation="relu", name=self.name("grouped")
        )
        return conv(x)

    def separable(self, x):
        conv = layers.SeparableConv2D(
            self.width(), 3, depth_multiplier=2, padding="same", name=self.name("separable")
        )
        return self.activation(self.norm(conv(x)))

    def transposed(self, x):
        conv = layers.Conv2DTranspose(self.width(), 3, padding="same", name=self.name("transposed"))
        return self.activation(conv(x))

    def squeeze_excite(self, x, keepdims=True):
        s = layers.GlobalAveragePooling2D(keepdims=keepdims, name=self.name("squeeze"))(x)
        if self.rng.random() < 0.5 and keepdims:
            s = self.bare_conv(s, 4, activation="relu", kernel=1)
            s = self.bare_conv(s, x.shape[-1], activation="sigmoid", kernel=1)
        else:
            s = layers.Dense(4, activation="relu", name=self.name("dense"))(s)
            s = layers.Dense(x.shape[-1], activation="hard_sigmoid", name=self.name("dense"))(s)
            s = layers.Reshape((1, 1, x.shape[-1]), name=self.name("reshape"))(s)
        return layers.Multiply(name=self.name("excite"))([x, s])

    def gate_before_relu(self, x):
        return self.activation(self.squeeze_excite(self.norm(self.bare_conv(x)), keepdims=False))

    def spatial_gate(self, x):
        mask = layers.Conv2D(1, 1, activation="sigmoid", name=self.name("mask"))(x)
        return layers.Multiply(name=self.name("masked"))([x, mask])

    def shared(self, x):
        x = self.conv(x, 6)
        shared = layers.Conv2D(6, 3, padding="same", activation="relu", name=self.name("shared"))
        return shared(shared(x))

    def shared_norm(self, x):
        norm, relu = layers.BatchNormalization(name=self.name("bn")), layers.ReLU(name=self.name("relu"))
        a, b = (relu(norm(self.bare_conv(x, 6))) for _ in range(2))
        return layers.Concatenate(name=self.name("concat"))([a, b])

    def inner(self, channels, width, kernel=3):
        inputs = keras.Input((self.size, self.size, channels))
        x = self.conv_bn(inputs, 6)
        x = self.norm(self.bare_conv(x, width))
        if channels == width:
            x = layers.Add(name=self.name("add"))([x, inputs])
        return keras.Model(inputs, self.activation(x), name=self.name("inner"))

    def nested(self, x):
        return self.inner(x.shape[-1], x.shape[-1] if self.rng.random() < 0.5 else self.width())(x)

    def nested_twice(self, x):
        inner = self.inner(x.shape[-1], x.shape[-1])
        return inner(inner(x))

    def nested_sequential(self, x):
        conv = layers.Conv2D(self.width(), 3, padding="same", name=self.name("conv"))
        parts = [conv, layers.BatchNormalization(name=self.name("bn")), layers.ReLU()]
        return keras.Sequential(parts, name=self.name("sequential"))(x)

    def sum_of_concat(self, x):
        a, b = self.bare_conv(x), self.bare_conv(x)
        both = layers.Concatenate(name=self.name("concat"))([a, b])
        c = self.bare_conv(x, both.shape[-1])
        return self.activation(layers.Add(name=self.name("add"))([both, c]))

    def merge(self, x):
        kind = self.rng.choice(["Subtract", "Average", "Maximum", "Multiply", "Minimum", "Add"])
        width = self.width()
        branches = [self.conv_bn(x, width), self.conv(x, width)]
        return getattr(layers, kind)(name=self.name(kind.lower()))(branches)

    def spatial(self, x):
        x = layers.ZeroPadding2D(1, name=self.name("pad"))(x)
        x = layers.Cropping2D(1, name=self.name("crop"))(x)
        x = layers.MaxPooling2D(3, strides=1, padding="same", name=self.name("pool"))(x)
        x = layers.UpSampling2D(2, name=self.name("up"))(x)
        x = layers.AveragePooling2D(2, name=self.name("average"))(x)
        return layers.Dropout(0.3, name=self.name("dropout"))(x)

    def raw(self, x):
        y = self.conv(x, x.shape[-1])
        return ops.concatenate([ops.maximum(x, y), x * y, ops.relu(x - 0.5 * y)], axis=-1)

    def prelu(self, x):
        x = self.conv_bn(x)
        shared = [1, 2] if self.rng.random() < 0.5 else None
        return layers.PReLU(shared_axes=shared, alpha_initializer="ones", name=self.name("prelu"))(x)

    def group_norm(self, x):
        x = layers.GroupNormalization(2, name=self.name("group_norm"))(self.bare_conv(x, 8))
        return self.activation(layers.LayerNormalization(name=self.name("ln"))(self.activation(x)))

    def relu_then_norm(self, x):
        return self.norm(self.conv(x))

    def side_output(self, x):
        self.sides.append(x)
        return x

    def reshape(self, x):
        h, w, c = x.shape[1:]
        x = layers.Reshape((h * w, c), name=self.name("reshape"))(x)
        x = layers.Conv1D(self.width(), 3, padding="same", activation="relu", name=self.name("conv1d"))(
            x
        )
        x = layers.Permute((2, 1), name=self.name("permute"))(x)
        x = layers.Permute((2, 1), name=self.name("permute"))(x)
        return layers.Reshape((h, w, -1), name=self.name("reshape"))(x)

    def head(self, x):
        choice = self.rng.integers(3)
        if choice == 0:
            x = layers.Flatten(name=self.name("flatten"))(layers.MaxPooling2D(2)(x))
        else:
            pool = [layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D][choice - 1]
            x = pool(name=self.name("pool"))(x)
        x = layers.Dense(8, activation="relu", name=self.name("hidden"))(x)
        return layers.Dense(3, name=self.name("out"))(x)


def scramble(model, rng):
    """Give every weight a random value, biases and statistics too, so that nothing is zero by chance."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            scramble(layer, rng)
            continue
        for v in layer.weights:
            alone = "Depthwise" in type(layer).__name__ or v.name == "depthwise_kernel"
            inputs = v.shape[:-2] if alone else v.shape[:-1]
            value = rng.normal(size=v.shape) / np.sqrt(max(np.prod(inputs), 1))
            positive = v.name in ("gamma", "moving_variance")
            v.assign(np.abs(value) + 0.5 if positive else value)


def random_cut(groups, rng, exact=True):
    """Random new widths and random densities for the prunable groups (those that are exact)."""
    widths, densities = {}, {}
    for g in groups.prunable():
        if not (exact and g.inexact) and rng.random() < 0.8:
            widths[g.owner] = int(rng.integers(1, g.width // g.parts + 1)) * g.parts
        densities[g.owner] = rng.random(g.width)
    return widths, densities


class _Mask(keras.Operation):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def call(self, x):
        return x * ops.cast(self.mask, x.dtype)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def silenced(model, groups, kept):
    """The dense network with the channels that go zeroed at each ReLU that follows them."""
    stays = np.ones(sum(g.width for g in groups.groups) + 1, bool)
    for group in groups.groups:
        if group.owner in kept:
            stays[group.start : group.start + group.width] = np.isin(
                np.arange(group.width), kept[group.owner]
            )
    assert FIXED_WIDTH == -1  # the last entry
    masks = {}
    for place in groups.relus:
        if place.channels is not None:
            rank = len(groups.trace.calls[place.call].outputs[0].shape)
            shape = [-1 if i == place.axis else 1 for i in range(rank)]
            masks[place.call] = stays[place.channels].astype("float32").reshape(shape)
    return _Masked(masks).copy(model)


class _Masked(StandIns):
    def __init__(self, masks):
        super().__init__()
        self.masks, self.calls, self.copies = masks, itertools.count(), itertools.count()

    def call(self, stand_in, path, args, kwargs):
        if is_nested(stand_in.op):
            name = f"{stand_in.name}_{next(self.copies)}"
            return StandIn(self.copy(stand_in.op), name)(*args, **kwargs)
        mask, outputs = self.masks.get(next(self.calls)), stand_in(*args, **kwargs)
        return outputs if mask is None else _Mask(mask)(outputs)
