"""How channels run through a graph: what each kind of layer makes of the channels that it reads.

Every channel that a convolution or Dense layer makes gets an id. A tensor's channels are the ids along
one of its axes; -1 stands for a channel whose width is given (the image's, or past a layer that is
not known here). Layers that need the same channels in two places tie their ids. What a layer's rule
says is enough to cut the layer: which of its settings and which axes of its weights follow which ids.

Beside the ids each channel is `silent` or not: zero wherever the ReLU that speaks for it gives zero.
Where a layer that mixes channels reads one that is not, removing the channel is felt there.
"""

from collections import Counter
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import layers

GIVEN = -1


@dataclass(frozen=True)
class Channels:
    """The channels of one tensor.

    Attributes:
        axis: int, their axis; `None` where the tensor has none that can be followed.
        ids: int array, the id of each channel along the axis, or `None`.
        silent: bool array, see the module's docstring, or `None`.
        upstream: int, the bits of all producers that the tensor depends on.
        depth: int, producers on the longest path to here.
    """

    axis: int | None = None
    ids: np.ndarray | None = None
    silent: np.ndarray | None = None
    upstream: int = 0
    depth: int = 0

    def heard(self):
        """The same channels after something that turns zeros into other values."""
        return replace(self, silent=np.zeros(len(self.ids), bool)) if self.known else self

    @property
    def known(self):
        """True where the tensor has channels that can be followed."""
        return self.axis is not None


@dataclass
class Block:
    """The channels that one layer makes: ids `start` to `start + width`."""

    name: str
    start: int
    width: int
    depth: int
    gate: bool = False  # a factor broadcast over a map: it follows the width of the map


@dataclass(frozen=True)
class Weight:
    """Which ids the axes of one weight follow.

    Attributes:
        axes: `{axis: ids}`; other axes keep their size.
        blocks: int, groups of a grouped convolution: axis -2 holds one of this many equal parts of
            its ids, in turn for each part of axis -1.
    """

    axes: dict
    blocks: int = 1


@dataclass(frozen=True)
class Sum:
    """An Add with shortcuts x + f(x), which a projection joins where the two ends differ.

    Attributes:
        axis: int, the channels' axis.
        out: ids of the output.
        inputs: for each input its ids where it is such a shortcut, else `None`.
    """

    axis: int
    out: np.ndarray
    inputs: tuple


_ZERO_TO_ZERO = {  # functions of one channel alone, by their value at zero
    *("celu", "elu", "gelu", "hard_shrink", "hard_silu", "hard_tanh", "leaky_relu", "linear", "mish"),
    *("relu", "relu6", "selu", "silu", "soft_shrink", "softsign", "sparse_plus", "tanh"),
    "tanh_shrink",
}
_ZERO_TO_OTHER = {"exponential", "hard_sigmoid", "log_sigmoid", "sigmoid", "softplus"}
_ZERO_TO_OTHER |= {"sparse_sigmoid", "squareplus"}
_RAW_ZERO_TO_ZERO = {
    *("Absolute", "Cast", "Celu", "Elu", "Gelu", "HardShrink", "HardSilu", "HardTanh", "Identity"),
    *("LeakyRelu", "Negative", "Relu", "Relu6", "Selu", "Silu", "SoftShrink", "Softsign", "Sqrt"),
    *("Square", "StopGradient", "Tanh", "TanhShrink"),
}
_RAW_ZERO_TO_OTHER = {"Exp", "HardSigmoid", "LogSigmoid", "Sigmoid", "Softplus"}

UNKNOWN = "is not a layer whose channels pruning can follow"
SOMEWHERE_ELSE = "reads the channels along another axis"


class Walk:
    """One pass over a model's calls; afterwards everything is known about every channel.

    Attributes:
        blocks: list of `Block`; the n-th producer has bit n.
        parent: list, the union-find forest over ids.
        fixed: `{id: reason}`, channels that must stay.
        felt: `{id: reason}`, channels whose removal some layer feels although a ReLU gives zero.
        parts: list of (ids, count, reason): ids of which equal parts must stay alike in number.
        relus: list of (index of the call, `Channels` of its output).
        sums: `{call name: Sum}`.
        weights: `{(call name, weight name): Weight}`.
        settings: `{call name: {key of its config, or (key, index): ids whose number it is}}`.
        at: `{id(tensor): Channels}`.
    """

    def __init__(self, trace, shortcuts):
        self.project = shortcuts == "project"
        self.blocks, self.parent, self.fixed, self.felt = [], [], {}, {}
        self.parts, self.relus, self.sums, self.weights, self.settings = [], [], {}, {}, {}
        self.at = {id(t): Channels() for t in trace.inputs}
        self._made, self._joined, self._joined_parent = {}, [], []  # of blocks, tied ones together
        names = [call.name for call in trace.calls]
        self._shared = {name for name, count in Counter(names).items() if count > 1}
        for index, call in enumerate(trace.calls):
            out = self._visit(call)
            for tensor in call.outputs:
                self.at[id(tensor)] = out
            if is_relu(call.op):
                self.relus.append((index, self.at[id(call.outputs[0])]))
        inside, self.fixed = self.fixed, {}
        for tensor in trace.outputs:
            self._fix(self.at[id(tensor)].ids, "it is an output of the model")
        self.fixed = {**self.fixed, **{i: r for i, r in inside.items() if i not in self.fixed}}

    def root(self, i):
        """Return the id that stands for all that `i` is tied to."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    # How a call is looked up.

    def _visit(self, call):
        rule = _RULES.get(type(call.op))
        if rule is None and not isinstance(call.op, layers.Layer):
            rule = _RAW_RULES.get(type(call.op).__name__)
        if getattr(call.op, "quantization_mode", None) or getattr(call.op, "lora_enabled", False):
            rule = None
        inputs = [self.at[id(t)] for t in call.inputs]
        if rule is None or not call.inputs:
            return self._stop(call, UNKNOWN)
        if not any(c.known for c in inputs) and rule not in _PRODUCERS:
            return self._opaque(call)
        return rule(self, call, inputs[0])

    def _opaque(self, call):
        inputs = [self.at[id(t)] for t in call.inputs]
        upstream = 0
        for c in inputs:
            upstream |= c.upstream
        return Channels(upstream=upstream, depth=max((c.depth for c in inputs), default=0))

    def _stop(self, call, reason):
        for tensor in call.inputs:
            self._fix(self.at[id(tensor)].ids, f"{_called(call)} {reason}")
        return self._opaque(call)

    def _fix(self, ids, reason):
        for i in set(ids.tolist()) - {GIVEN} if ids is not None else ():
            self.fixed.setdefault(i, reason)

    def _tie(self, ids, others, reason):
        """Make two runs of ids the same channels, one by one."""
        for i, j in zip(ids.tolist(), others.tolist(), strict=True):
            if GIVEN in (i, j):
                self._fix(np.array([i, j]), reason)
            else:
                low, high = sorted((self.root(i), self.root(j)))
                self.parent[high] = low
        blocks = [self._joined_root(b) for b in self._blocks_of(ids) | self._blocks_of(others)]
        for b in blocks[1:]:
            if b != blocks[0]:
                self._joined_parent[b] = blocks[0]
                self._joined[blocks[0]] |= self._joined[b]

    def _joined_root(self, block):
        while self._joined_parent[block] != block:
            block = self._joined_parent[block]
        return block

    def _feel(self, call, ids, silent):
        reason = f"{_called(call)} reads its channels where no ReLU has the last word"
        for i in ids[~silent].tolist():
            if i != GIVEN:
                self.felt.setdefault(i, reason)

    def _weigh(self, call, weight, axes, blocks=1):
        """Say which ids the axes of a weight follow; a layer called again must find them alike."""
        before = self.weights.setdefault((call.name, weight), Weight(axes, blocks))
        for axis, ids in axes.items():
            self._again(call, before.axes[axis], ids)

    def _set(self, call, key, ids):
        """Say which ids a setting of a layer counts."""
        self._again(call, self.settings.setdefault(call.name, {}).setdefault(key, ids), ids)

    def _again(self, call, before, ids):
        if before is not ids and not np.array_equal(before, ids):
            self._tie(before, ids, f"{_called(call)} is called on other channels too")

    # Layers that make channels.

    def _read(self, call, c, axis):
        """The ids that a mixing layer reads along `axis`, or `None` where that cannot be said."""
        size = call.inputs[0].shape[axis]
        if not c.known:
            return np.full(size, GIVEN)
        if c.axis != axis:
            self._fix(c.ids, f"{_called(call)} {SOMEWHERE_ELSE}")
            return np.full(size, GIVEN)
        self._feel(call, c.ids, c.silent)
        return c.ids

    def _make(self, call, c, axis, width, key, parts=1):
        """A new block of channels (the same one where a layer is called again)."""
        block = self._made.get(call.name)
        if block is None:
            block = Block(call.name, len(self.parent), width, c.depth + 1)
            self._made[call.name] = block
            self._joined.append(1 << len(self.blocks))
            self._joined_parent.append(len(self.blocks))
            self.blocks.append(block)
            self.parent.extend(range(block.start, block.start + width))
        block.depth = max(block.depth, c.depth + 1)
        ids = np.arange(block.start, block.start + width)
        self._set(call, key, ids)
        if parts > 1:
            self.parts.append((ids, parts, _called(call)))
        bit = 1 << self.blocks.index(block)
        out = Channels(axis, ids, np.zeros(width, bool), c.upstream | bit, block.depth)
        return self._activate(call, out)

    def _convolution(self, call, c):
        op, axis = call.op, _channel_axis(call.op, call.inputs[0])
        if op.groups > 1 and op.groups == call.inputs[0].shape[axis]:
            return self._depthwise(call, c)
        ids = self._read(call, c, axis)
        out = self._make(call, c, axis, op.filters, "filters", op.groups)
        if op.groups > 1:
            self.parts.append((ids, op.groups, _called(call)))
        self._weigh(call, "kernel", {-2: ids, -1: out.ids}, op.groups)
        self._weigh(call, "bias", {0: out.ids})
        return out

    def _transposed(self, call, c):
        axis = _channel_axis(call.op, call.inputs[0])
        ids = self._read(call, c, axis)
        out = self._make(call, c, axis, call.op.filters, "filters")
        self._weigh(call, "kernel", {-1: ids, -2: out.ids})
        self._weigh(call, "bias", {0: out.ids})
        return out

    def _separable(self, call, c):
        axis = _channel_axis(call.op, call.inputs[0])
        ids = self._read(call, c, axis)
        out = self._make(call, c, axis, call.op.filters, "filters")
        self._weigh(call, "depthwise_kernel", {-2: ids})
        self._weigh(call, "pointwise_kernel", {-2: ids.repeat(call.op.depth_multiplier), -1: out.ids})
        self._weigh(call, "bias", {0: out.ids})
        return out

    def _dense(self, call, c):
        axis = len(call.inputs[0].shape) - 1
        ids = self._read(call, c, axis)
        out = self._make(call, c, axis, call.op.units, "units")
        self._weigh(call, "kernel", {0: ids, 1: out.ids})
        self._weigh(call, "bias", {0: out.ids})
        return out

    # Layers that treat each channel alone.

    def _depthwise(self, call, c):
        op, axis = call.op, _channel_axis(call.op, call.inputs[0])
        if not c.known:
            return self._opaque(call)
        if c.axis != axis:
            return self._stop(call, SOMEWHERE_ELSE)
        times = call.outputs[0].shape[axis] // call.inputs[0].shape[axis]
        ids, silent = c.ids.repeat(times), c.silent.repeat(times)
        if isinstance(op, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
            self._weigh(call, "kernel", {-2: c.ids})
        else:
            self._weigh(call, "kernel", {-1: ids})
            self._set(call, "filters", ids)
            self._set(call, "groups", c.ids)
        self._weigh(call, "bias", {0: ids})
        out = replace(c, ids=ids, silent=silent)
        return self._activate(call, out.heard() if op.use_bias else out)

    def _activate(self, call, c):
        """What the activation of a layer does to its channels."""
        function = getattr(call.op, "activation", None) or keras.activations.linear
        name = getattr(function, "__name__", "")
        if getattr(keras.activations, name, None) is not function:
            name = ""  # somebody's own function, whatever its name
        if is_relu(call.op):
            return replace(c, silent=np.ones(len(c.ids), bool))
        if name in _ZERO_TO_ZERO:
            return c
        if name not in _ZERO_TO_OTHER:
            self._fix(c.ids, f"the activation of {_called(call)} may mix its channels")
        return c.heard()

    def _pass(self, call, c):
        return c

    def _relu(self, call, c):
        """ReLU and its relatives without weights."""
        if is_relu(call.op):
            return replace(c, silent=np.ones(len(c.ids), bool))
        return c.heard() if getattr(call.op, "threshold", 0) else c

    def _heard(self, call, c):
        return c.heard()

    def _spatial(self, call, c):
        """Pooling, padding, cropping, upsampling: they leave the channels where they are."""
        if c.axis != _channel_axis(call.op, call.inputs[0]):
            return self._stop(call, SOMEWHERE_ELSE)
        return c

    def _global(self, call, c):
        if c.axis != _channel_axis(call.op, call.inputs[0]):
            return self._stop(call, SOMEWHERE_ELSE)
        return c if call.op.keepdims else replace(c, axis=1)

    def _reduce(self, call, c):
        """`keras.ops.mean` and `max` over other axes than the channels'."""
        rank = len(call.inputs[0].shape)
        axes = range(rank) if call.op.axis is None else [a % rank for a in call.op.axis]
        if c.axis in axes or 0 in axes:
            return self._stop(call, "reduces the channels' axis")
        gone = 0 if call.op.keepdims else sum(a < c.axis for a in axes)
        return replace(c, axis=c.axis - gone)

    def _batch_norm(self, call, c):
        if call.op.axis % len(call.inputs[0].shape) != c.axis:
            return self._stop(call, "normalises another axis than the channels'")
        for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
            self._weigh(call, weight, {0: c.ids})
        return c.heard()

    def _layer_norm(self, call, c):
        rank = len(call.inputs[0].shape)
        axes = call.op.axis if isinstance(call.op.axis, (list, tuple)) else [call.op.axis]
        axes = [a % rank for a in axes]
        if c.axis in axes:
            self._feel(call, c.ids, np.zeros(len(c.ids), bool))
            for weight in ("gamma", "beta", "scale"):
                self._weigh(call, weight, {axes.index(c.axis): c.ids})
        return c.heard()

    def _group_norm(self, call, c):
        op = call.op
        if op.axis % len(call.inputs[0].shape) != c.axis:
            return self._stop(call, "normalises another axis than the channels'")
        if op.groups == len(c.ids):  # each channel alone
            self._set(call, "groups", c.ids)
        else:
            self._feel(call, c.ids, np.zeros(len(c.ids), bool))
            self.parts.append((c.ids, op.groups, _called(call)))
        for weight in ("gamma", "beta"):
            self._weigh(call, weight, {0: c.ids})
        return c.heard()

    def _prelu(self, call, c):
        if c.axis not in (call.op.shared_axes or ()):
            self._weigh(call, "alpha", {c.axis - 1: c.ids})
        return c

    def _rescale(self, call, c):
        op = call.op
        if np.size(op.scale) > 1 or np.size(op.offset) > 1:
            return self._stop(call, "has a number for each channel")
        return c if np.all(np.equal(op.offset, 0)) else c.heard()

    # Layers that move channels to other places.

    def _reshape(self, call, c):
        """Flatten and Reshape: follow each channel to where the reshape puts it."""
        before, after = call.inputs[0].shape[1:], call.outputs[0].shape[1:]
        if None in before or None in after:
            return self._stop(call, "reshapes a map of unknown size")
        places = np.arange(len(c.ids)).reshape(
            [-1 if i + 1 == c.axis else 1 for i in range(len(before))]
        )
        places = np.broadcast_to(places, before)
        if getattr(call.op, "data_format", None) == "channels_first" and len(before) > 1:
            places = np.moveaxis(places, 0, -1)  # Flatten does so first
        places = places.reshape(after)
        for axis in reversed(range(len(after))):
            line = np.moveaxis(places, axis, -1).reshape(-1, after[axis])
            if len(c.ids) <= after[axis] and (line == line[0]).all():
                key = {layers.Reshape: "target_shape"}.get(type(call.op), "newshape")
                at = axis if key == "target_shape" else axis + 1
                if hasattr(call.op, key) and getattr(call.op, key)[at] != -1:
                    self._set(call, (key, at), c.ids[line[0]])
                return replace(c, axis=axis + 1, ids=c.ids[line[0]], silent=c.silent[line[0]])
        return self._stop(call, "takes the channels' axis apart")

    def _permute(self, call, c):
        return replace(c, axis=1 + call.op.dims.index(c.axis))

    def _repeat(self, call, c):
        return replace(c, axis=2)

    def _concatenate(self, call, c):
        inputs = [self.at[id(t)] for t in call.inputs]
        known = [x for x in inputs if x.known]
        axis = call.op.axis % len(call.outputs[0].shape)
        if any(x.axis != known[0].axis for x in known):
            return self._stop(call, "joins channels along different axes")
        out = self._opaque(call)
        if known[0].axis != axis:
            for x in inputs:
                ids = x.ids if x.known else np.full_like(known[0].ids, GIVEN)
                self._tie(known[0].ids, ids, f"{_called(call)} joins it to a map of given width")
            silent = np.logical_and.reduce([x.silent for x in known])
            return replace(out, axis=known[0].axis, ids=known[0].ids, silent=silent)
        sizes = [t.shape[axis] for t in call.inputs]
        ids = [x.ids if x.known else np.full(n, GIVEN) for x, n in zip(inputs, sizes, strict=True)]
        silent = [x.silent if x.known else np.ones(n, bool) for x, n in zip(inputs, sizes, strict=True)]
        return replace(out, axis=axis, ids=np.concatenate(ids), silent=np.concatenate(silent))

    # Layers that put several maps of channels on top of each other.

    def _multiply(self, call, c):
        return self._elementwise(call, product=True)

    def _other_merge(self, call, c):
        return self._elementwise(call)

    def _add(self, call, c):
        return self._elementwise(call, add=True)

    def _elementwise(self, call, product=False, add=False):
        shape = call.outputs[0].shape
        arrays = [a for a in call.args if not _has_tensor(a) and np.ndim(a)]
        inputs = [(t, self.at[id(t)]) for t in call.inputs]
        known = [x for _, x in inputs if x.known]
        if arrays or any(len(t.shape) != len(shape) for t, _ in inputs):
            return self._stop(call, "combines maps of different rank, or with an array")
        if not known:
            return self._opaque(call)
        axis = known[0].axis
        if any(x.axis != axis for x in known):
            return self._stop(call, "combines channels along different axes")
        if len(call.inputs) == 1:  # with a number
            return known[0] if product else known[0].heard()

        def wide(t):
            return t.shape[axis] == shape[axis]

        for t, x in inputs:
            if not wide(t):
                self._fix(x.ids, f"{_called(call)} spreads it over all channels")
            elif x.known and any(
                n == 1 != m for i, (n, m) in enumerate(zip(t.shape, shape, strict=True)) if i != axis
            ):
                for block in self._blocks_of(x.ids):
                    self.blocks[block].gate = True
        wides = [x for t, x in inputs if wide(t)]
        joined = wides
        if add and self.project and call.name not in self._shared:
            joined = [x for x in wides if x.known and not self._is_shortcut(x, wides)] or wides
        joined_known = [x for x in joined if x.known]
        if not joined_known:  # only what is spread over the channels could be followed
            return self._opaque(call)
        first = joined_known[0]
        for x in joined:
            ids = x.ids if x.known else np.full_like(first.ids, GIVEN)
            self._tie(first.ids, ids, f"{_called(call)} puts it on top of a map of given width")
        if product:
            silent = np.logical_or.reduce([x.silent for x in joined_known])
        elif len(joined) == len(inputs):
            silent = np.logical_and.reduce([x.silent for x in joined_known])
        else:  # something else comes through where these channels are zero
            silent = np.zeros(len(first.ids), bool)
        for x in wides:
            if x.known and not any(x is j for j in joined):
                self._feel(call, x.ids, x.silent)  # as the projection will
        out = replace(self._opaque(call), axis=axis, ids=first.ids, silent=silent)
        if len(joined) < len(wides):
            given = np.full(len(first.ids), GIVEN)
            places = (
                None if not wide(t) or any(x is j for j in joined) else x.ids if x.known else given
                for t, x in inputs
            )
            self.sums[call.name] = Sum(axis, first.ids, tuple(places))
        return out

    def _is_shortcut(self, x, others):
        """True where another input of an Add is computed from these channels: x + f(x)."""
        own = 0
        for block in self._blocks_of(x.ids):
            own |= self._joined[self._joined_root(block)]
        return any(own & o.upstream and not self._same(o, x) for o in others if o is not x)

    def _blocks_of(self, ids):
        """Indices of the blocks that have a channel among `ids`."""
        starts = [block.start for block in self.blocks]
        return set((np.searchsorted(starts, ids[ids != GIVEN], side="right") - 1).tolist())

    def _same(self, x, other):
        if not (x.known and other.known and len(x.ids) == len(other.ids)):
            return False
        return all(
            i == j or (GIVEN not in (i, j) and self.root(i) == self.root(j))
            for i, j in zip(x.ids.tolist(), other.ids.tolist(), strict=True)
        )


def is_relu(op):
    """True where `op`'s output is a ReLU's: zero for everything that is not positive.

    A ReLU may be a layer, the `activation` of any layer, or a raw `keras.ops.relu`.
    """
    if isinstance(op, layers.ReLU):
        return op.negative_slope == 0 and op.threshold >= 0
    if not isinstance(op, layers.Layer):
        return type(op).__name__ in ("Relu", "Relu6")
    return getattr(op, "activation", None) in (keras.activations.relu, keras.activations.relu6)


def _called(call):
    return f"layer '{call.name}' ({type(call.op).__name__})"


def _channel_axis(op, tensor):
    first = getattr(op, "data_format", "channels_last") == "channels_first"
    return 1 if first else len(tensor.shape) - 1


def _has_tensor(structure):
    return any(isinstance(t, keras.KerasTensor) for t in keras.tree.flatten(structure))


def _of(names, rule):
    return {getattr(layers, name): rule for name in names.split()}


_RULES = {
    **_of("Conv1D Conv2D Conv3D", Walk._convolution),
    **_of("Conv1DTranspose Conv2DTranspose Conv3DTranspose", Walk._transposed),
    **_of("SeparableConv1D SeparableConv2D", Walk._separable),
    **_of("DepthwiseConv1D DepthwiseConv2D", Walk._depthwise),
    **_of("Dense", Walk._dense),
    **_of("Activation", Walk._activate),
    **_of("ReLU LeakyReLU ELU", Walk._relu),
    **_of("PReLU", Walk._prelu),
    **_of(
        "Dropout GaussianNoise GaussianDropout AlphaDropout Identity ActivityRegularization", Walk._pass
    ),
    **_of("SpatialDropout1D SpatialDropout2D SpatialDropout3D", Walk._pass),
    **_of("MaxPooling1D MaxPooling2D MaxPooling3D", Walk._spatial),
    **_of("AveragePooling1D AveragePooling2D AveragePooling3D", Walk._spatial),
    **_of("AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D", Walk._spatial),
    **_of("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", Walk._spatial),
    **_of("ZeroPadding1D ZeroPadding2D ZeroPadding3D", Walk._spatial),
    **_of("Cropping1D Cropping2D Cropping3D", Walk._spatial),
    **_of("UpSampling1D UpSampling2D UpSampling3D Resizing", Walk._spatial),
    **_of("GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D", Walk._global),
    **_of("GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D", Walk._global),
    **_of("BatchNormalization", Walk._batch_norm),
    **_of("LayerNormalization RMSNormalization", Walk._layer_norm),
    **_of("GroupNormalization", Walk._group_norm),
    **_of("Rescaling", Walk._rescale),
    **_of("Flatten Reshape", Walk._reshape),
    **_of("Permute", Walk._permute),
    **_of("RepeatVector", Walk._repeat),
    **_of("Concatenate", Walk._concatenate),
    **_of("Add", Walk._add),
    **_of("Subtract Average Maximum Minimum", Walk._other_merge),
    **_of("Multiply", Walk._multiply),
}
_RAW_RULES = {
    **dict.fromkeys(_RAW_ZERO_TO_ZERO, Walk._relu),
    **dict.fromkeys(_RAW_ZERO_TO_OTHER, Walk._heard),
    **dict.fromkeys(("Mean", "Max", "Amax"), Walk._reduce),
    "Reshape": Walk._reshape,
    "Concatenate": Walk._concatenate,
    "Add": Walk._add,
    **dict.fromkeys(("Subtract", "Maximum", "Minimum"), Walk._other_merge),
    "Multiply": Walk._multiply,
}
_PRODUCERS = {Walk._convolution, Walk._transposed, Walk._separable, Walk._dense}
KNOWN_LAYERS = tuple(sorted(kind.__name__ for kind in _RULES))
