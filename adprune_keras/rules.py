"""What each kind of layer makes of the channels that it reads: one rule a kind, and who has which.

A rule is called with the `Walk`, the call, and the `Channels` of the call's first input; it tells the
walk what it found and returns the channels of the output. A rule for many inputs looks the others up.
"""

from dataclasses import replace

import keras
import numpy as np
from keras import layers

from adprune_keras.channels import GIVEN, SOMEWHERE_ELSE, Sum, Walk, called
from adprune_keras.trace import tensors_in

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

_UNKNOWN = "is not a layer whose channels pruning can follow"


def follow(trace, shortcuts):
    """Follow every channel through a `Trace`; return the finished `Walk`."""
    walk = Walk(trace, shortcuts)
    for index, call in enumerate(trace.calls):
        out = _step(walk, call)
        for tensor in call.outputs:
            walk.at[id(tensor)] = out
        if is_relu(call.op):
            walk.relus.append((index, out))
    inside, walk.fixed = walk.fixed, {}
    for tensor in trace.outputs:
        walk.fix(walk.at[id(tensor)].ids, "it is an output of the model")
    walk.fixed |= {i: reason for i, reason in inside.items() if i not in walk.fixed}
    return walk


def _step(walk, call):
    rule = _RULES.get(type(call.op))
    if rule is None and not isinstance(call.op, layers.Layer):
        rule = _RAW_RULES.get(type(call.op).__name__)
    if getattr(call.op, "quantization_mode", None) or getattr(call.op, "lora_enabled", False):
        rule = None
    inputs = [walk.at[id(t)] for t in call.inputs]
    if rule is None or not call.inputs:
        return walk.stop(call, _UNKNOWN)
    if not any(c.known for c in inputs) and rule not in _PRODUCERS:
        return walk.opaque(call)
    return rule(walk, call, inputs[0])


def is_relu(op):
    """True where `op`'s output is a ReLU's: zero for everything that is not positive.

    A ReLU may be a layer, the `activation` of any layer, or a raw `keras.ops.relu`.
    """
    if isinstance(op, layers.ReLU):
        return op.negative_slope == 0 and op.threshold >= 0
    if not isinstance(op, layers.Layer):
        return type(op).__name__ in ("Relu", "Relu6")
    return getattr(op, "activation", None) in (keras.activations.relu, keras.activations.relu6)


def _produce(walk, call, c, key, kernels, parts=1):
    """Any layer that mixes the channels it reads and makes new ones.

    `kernels(ids read, ids made)` says which axes of which weight follow them; `key` is the width in the
    layer's config, and `parts` the groups of a grouped convolution.
    """
    axis = channel_axis(call.op, call.inputs[0])
    ids = walk.read(call, c, axis)
    out = walk.make(call, c, axis, getattr(call.op, key), key)
    if parts > 1:
        walk.parts += [(run, parts, called(call)) for run in (out.ids, ids)]
    for name, axes in kernels(ids, out.ids).items():
        walk.weigh(call, name, axes, parts)
    walk.weigh(call, "bias", {0: out.ids})
    return _activate(walk, call, out)


def _convolution(walk, call, c):
    op = call.op
    if op.groups > 1 and op.groups == call.inputs[0].shape[channel_axis(op, call.inputs[0])]:
        return _depthwise(walk, call, c)
    return _produce(
        walk, call, c, "filters", lambda ids, made: {"kernel": {-2: ids, -1: made}}, op.groups
    )


def _transposed(walk, call, c):
    return _produce(walk, call, c, "filters", lambda ids, made: {"kernel": {-1: ids, -2: made}})


def _separable(walk, call, c):
    def kernels(ids, made):
        spread = ids.repeat(call.op.depth_multiplier)
        return {"depthwise_kernel": {-2: ids}, "pointwise_kernel": {-2: spread, -1: made}}

    return _produce(walk, call, c, "filters", kernels)


def _dense(walk, call, c):
    return _produce(walk, call, c, "units", lambda ids, made: {"kernel": {0: ids, 1: made}})


# Layers that treat each channel alone.


def _depthwise(walk, call, c):
    op, axis = call.op, channel_axis(call.op, call.inputs[0])
    if not c.known:
        return walk.opaque(call)
    if c.axis != axis:
        return walk.stop(call, SOMEWHERE_ELSE)
    times = call.outputs[0].shape[axis] // call.inputs[0].shape[axis]
    ids, silent = c.ids.repeat(times), c.silent.repeat(times)
    if isinstance(op, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        walk.weigh(call, "kernel", {-2: c.ids})
    else:
        walk.weigh(call, "kernel", {-1: ids})
        walk.count(call, "filters", ids)
        walk.count(call, "groups", c.ids)
    walk.weigh(call, "bias", {0: ids})
    out = replace(c, ids=ids, silent=silent)
    return _activate(walk, call, out.heard() if op.use_bias else out)


def _activate(walk, call, c):
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
        walk.fix(c.ids, f"the activation of {called(call)} may mix its channels")
    return c.heard()


def _pass_on(walk, call, c):
    return c


def _relu_like(walk, call, c):
    """ReLU and its relatives without weights."""
    if is_relu(call.op):
        return replace(c, silent=np.ones(len(c.ids), bool))
    return c.heard() if getattr(call.op, "threshold", 0) else c


def _not_at_zero(walk, call, c):
    return c.heard()


def _spatial(walk, call, c):
    """Pooling, padding, cropping, upsampling: they leave the channels where they are."""
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c


def _global_pooling(walk, call, c):
    if c.axis != channel_axis(call.op, call.inputs[0]):
        return walk.stop(call, SOMEWHERE_ELSE)
    return c if call.op.keepdims else replace(c, axis=1)


def _reduce(walk, call, c):
    """`keras.ops.mean` and `max` over other axes than the channels'."""
    rank = len(call.inputs[0].shape)
    axes = range(rank) if call.op.axis is None else [a % rank for a in call.op.axis]
    if c.axis in axes or 0 in axes:
        return walk.stop(call, "reduces the channels' axis")
    gone = 0 if call.op.keepdims else sum(a < c.axis for a in axes)
    return replace(c, axis=c.axis - gone)


def _batch_norm(walk, call, c):
    if channel_axis(call.op, call.inputs[0]) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        walk.weigh(call, weight, {0: c.ids})
    return c.heard()


def _layer_norm(walk, call, c):
    rank = len(call.inputs[0].shape)
    axes = call.op.axis if isinstance(call.op.axis, (list, tuple)) else [call.op.axis]
    axes = [a % rank for a in axes]
    if c.axis in axes:
        walk.feel(call, c.ids, np.zeros(len(c.ids), bool))
        for weight in ("gamma", "beta", "scale"):
            walk.weigh(call, weight, {axes.index(c.axis): c.ids})
    return c.heard()


def _group_norm(walk, call, c):
    op = call.op
    if op.axis % len(call.inputs[0].shape) != c.axis:
        return walk.stop(call, "normalises another axis than the channels'")
    if op.groups == len(c.ids):  # each channel alone
        walk.count(call, "groups", c.ids)
    else:
        walk.feel(call, c.ids, np.zeros(len(c.ids), bool))
        walk.parts.append((c.ids, op.groups, called(call)))
    for weight in ("gamma", "beta"):
        walk.weigh(call, weight, {0: c.ids})
    return c.heard()


def _prelu(walk, call, c):
    if c.axis not in (call.op.shared_axes or ()):
        walk.weigh(call, "alpha", {c.axis - 1: c.ids})
    return c


def _rescale(walk, call, c):
    op = call.op
    if np.size(op.scale) > 1 or np.size(op.offset) > 1:
        return walk.stop(call, "has a number for each channel")
    return c if np.all(np.equal(op.offset, 0)) else c.heard()


# Layers that move channels to other places.


def _reshape(walk, call, c):
    """Flatten and Reshape: follow each channel to where the reshape puts it."""
    before, after = call.inputs[0].shape[1:], call.outputs[0].shape[1:]
    if None in before or None in after:
        return walk.stop(call, "reshapes a map of unknown size")
    places = np.arange(len(c.ids)).reshape([-1 if i + 1 == c.axis else 1 for i in range(len(before))])
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
                walk.count(call, (key, at), c.ids[line[0]])
            return replace(c, axis=axis + 1, ids=c.ids[line[0]], silent=c.silent[line[0]])
    return walk.stop(call, "takes the channels' axis apart")


def _permute(walk, call, c):
    return replace(c, axis=1 + call.op.dims.index(c.axis))


def _repeat_vector(walk, call, c):
    return replace(c, axis=2)


def _concatenate(walk, call, c):
    inputs = [walk.at[id(t)] for t in call.inputs]
    known = [x for x in inputs if x.known]
    axis = call.op.axis % len(call.outputs[0].shape)
    if any(x.axis != known[0].axis for x in known):
        return walk.stop(call, "joins channels along different axes")
    out = walk.opaque(call)
    if known[0].axis != axis:
        for x in inputs:
            ids = x.ids if x.known else np.full_like(known[0].ids, GIVEN)
            walk.tie(known[0].ids, ids, f"{called(call)} joins it to a map of given width")
        silent = np.logical_and.reduce([x.silent for x in known])
        return replace(out, axis=known[0].axis, ids=known[0].ids, silent=silent)
    sizes = [t.shape[axis] for t in call.inputs]
    ids = [x.ids if x.known else np.full(n, GIVEN) for x, n in zip(inputs, sizes, strict=True)]
    silent = [x.silent if x.known else np.ones(n, bool) for x, n in zip(inputs, sizes, strict=True)]
    return replace(out, axis=axis, ids=np.concatenate(ids), silent=np.concatenate(silent))


# Layers that put several maps of channels on top of each other.


def _multiply(walk, call, c):
    return _elementwise(walk, call, product=True)


def _other_merge(walk, call, c):
    return _elementwise(walk, call)


def _add(walk, call, c):
    return _elementwise(walk, call, add=True)


def _elementwise(walk, call, product=False, add=False):
    shape = call.outputs[0].shape
    arrays = [a for a in call.args if not tensors_in(a) and np.ndim(a)]
    inputs = [(t, walk.at[id(t)]) for t in call.inputs]
    known = [x for _, x in inputs if x.known]
    if arrays or any(len(t.shape) != len(shape) for t, _ in inputs):
        return walk.stop(call, "combines maps of different rank, or with an array")
    if not known:
        return walk.opaque(call)
    axis = known[0].axis
    if any(x.axis != axis for x in known):
        return walk.stop(call, "combines channels along different axes")
    if len(call.inputs) == 1:  # with a number
        return known[0] if product else known[0].heard()

    def wide(t):
        return t.shape[axis] == shape[axis]

    for t, x in inputs:
        if not wide(t):
            walk.fix(x.ids, f"{called(call)} spreads it over all channels")
        elif x.known and any(
            n == 1 != m for i, (n, m) in enumerate(zip(t.shape, shape, strict=True)) if i != axis
        ):
            for block in walk.blocks_of(x.ids):
                walk.blocks[block].gate = True
    wides = [x for t, x in inputs if wide(t)]
    joined = wides
    if add and walk.project and call.name not in walk.shared:
        joined = [x for x in wides if x.known and not walk.is_shortcut(x, wides)] or wides
    joined_known = [x for x in joined if x.known]
    if not joined_known:  # only what is spread over the channels could be followed
        return walk.opaque(call)
    first = joined_known[0]
    for x in joined:
        ids = x.ids if x.known else np.full_like(first.ids, GIVEN)
        walk.tie(first.ids, ids, f"{called(call)} puts it on top of a map of given width")
    if product:
        silent = np.logical_or.reduce([x.silent for x in joined_known])
    elif len(joined) == len(inputs):
        silent = np.logical_and.reduce([x.silent for x in joined_known])
    else:  # something else comes through where these channels are zero
        silent = np.zeros(len(first.ids), bool)
    for x in wides:
        if x.known and not any(x is j for j in joined):
            walk.feel(call, x.ids, x.silent)  # as the projection will
    out = replace(walk.opaque(call), axis=axis, ids=first.ids, silent=silent)
    if len(joined) < len(wides):
        given = np.full(len(first.ids), GIVEN)
        places = (
            None if not wide(t) or any(x is j for j in joined) else x.ids if x.known else given
            for t, x in inputs
        )
        walk.sums[call.name] = Sum(axis, first.ids, tuple(places))
    return out


def channel_axis(op, tensor):
    """Return the axis that a layer takes for the channels' in a tensor."""
    if isinstance(op, layers.BatchNormalization):
        return op.axis % len(tensor.shape)
    first = getattr(op, "data_format", "channels_last") == "channels_first"
    return 1 if first else len(tensor.shape) - 1


def _of(names, rule):
    return {getattr(layers, name): rule for name in names.split()}


_RULES = {
    **_of("Conv1D Conv2D Conv3D", _convolution),
    **_of("Conv1DTranspose Conv2DTranspose Conv3DTranspose", _transposed),
    **_of("SeparableConv1D SeparableConv2D", _separable),
    **_of("DepthwiseConv1D DepthwiseConv2D", _depthwise),
    **_of("Dense", _dense),
    **_of("Activation", _activate),
    **_of("ReLU LeakyReLU ELU", _relu_like),
    **_of("PReLU", _prelu),
    **_of(
        "Dropout GaussianNoise GaussianDropout AlphaDropout Identity ActivityRegularization", _pass_on
    ),
    **_of("SpatialDropout1D SpatialDropout2D SpatialDropout3D", _pass_on),
    **_of("MaxPooling1D MaxPooling2D MaxPooling3D", _spatial),
    **_of("AveragePooling1D AveragePooling2D AveragePooling3D", _spatial),
    **_of("AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D", _spatial),
    **_of("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", _spatial),
    **_of("ZeroPadding1D ZeroPadding2D ZeroPadding3D", _spatial),
    **_of("Cropping1D Cropping2D Cropping3D", _spatial),
    **_of("UpSampling1D UpSampling2D UpSampling3D Resizing", _spatial),
    **_of("GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D", _global_pooling),
    **_of("GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D", _global_pooling),
    **_of("BatchNormalization", _batch_norm),
    **_of("LayerNormalization RMSNormalization", _layer_norm),
    **_of("GroupNormalization", _group_norm),
    **_of("Rescaling", _rescale),
    **_of("Flatten Reshape", _reshape),
    **_of("Permute", _permute),
    **_of("RepeatVector", _repeat_vector),
    **_of("Concatenate", _concatenate),
    **_of("Add", _add),
    **_of("Subtract Average Maximum Minimum", _other_merge),
    **_of("Multiply", _multiply),
}
_RAW_RULES = {
    **dict.fromkeys(_RAW_ZERO_TO_ZERO, _relu_like),
    **dict.fromkeys(_RAW_ZERO_TO_OTHER, _not_at_zero),
    **dict.fromkeys(("Mean", "Max", "Amax"), _reduce),
    "Reshape": _reshape,
    "Concatenate": _concatenate,
    "Add": _add,
    **dict.fromkeys(("Subtract", "Maximum", "Minimum"), _other_merge),
    "Multiply": _multiply,
}
_PRODUCERS = {_convolution, _transposed, _separable, _dense}
KNOWN_LAYERS = tuple(sorted(kind.__name__ for kind in _RULES))
