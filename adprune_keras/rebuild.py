"""The same network at other widths: a new functional graph with new weights."""

import itertools
import zlib

import keras
from keras import layers, tree

from adprune_keras.groups import PROJECTION, find_groups
from adprune_keras.models.plans import BATCH_NORM, check_width
from adprune_keras.trace import as_functional

_POINTWISE = {3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}


def resize(model, widths, seed=None):
    """Rebuild a model at new widths, with new weights; the model itself is untouched.

    Layer names, order and all other settings stay. Where an Add's inputs no longer agree in width,
    the one that others read too (an identity shortcut) gets a 1x1 projection + BN, named after
    the Add: `stage1_block1_add` -> `stage1_block1_shortcut_conv`, `stage1_block1_shortcut_bn`.
    The factories build a residual network at these widths in the same way.

    Args:
        model: Functional or built Sequential `keras.Model`.
        widths: `{layer name: width}`, ints; names as `layer_widths(model)` lists them. Layers left
            out keep their width.
        seed: int or `None`. With a seed the new weights are the same each time, whatever the
            global random state; `None` (default) draws them from it.

    Returns:
        A new `keras.Model`, not compiled: Sequential for a Sequential, else Functional.

    Raises:
        ValueError: unknown or fixed layer, a width that is not a positive int, or no graph.

    Example:
    >>> small = resize(models.VGG19(), {"block1_conv1": 18, "block1_conv2": 23})
    """
    groups = find_groups(model)
    targets = _targets(groups, widths)
    producers = {name: targets[g.owner] for g in groups.groups for name in g.producers}

    def make(op):
        config = op.get_config()
        if op.name in producers:
            config["units" if isinstance(op, layers.Dense) else "filters"] = producers[op.name]
        return type(op).from_config(_seeded(config, op.name, seed))

    plain = as_functional(model)
    if isinstance(model, keras.Sequential):
        inputs = _inputs(plain)  # a single one
        return keras.Sequential([inputs, *(make(op) for op in model.layers)], name=model.name)

    norms = [op for op in plain.layers if isinstance(op, layers.BatchNormalization)]
    norm = {"momentum": norms[0].momentum, "epsilon": norms[0].epsilon} if norms else BATCH_NORM
    taken = {op.name for op in plain.operations}
    tied = {
        call.op.name: (groups.adds[call.op.name], call.inputs)
        for call in groups.trace.calls
        if call.op.name in groups.adds
    }
    old_widths = {g.owner: g.width for g in groups.groups}

    def call(op, *args, **kwargs):
        if op.name in tied:
            add, before = tied[op.name]
            inputs = [
                _project(x, targets[add.owner], add, taken, norm, seed)
                if old.shape[add.axis] == old_widths[add.owner]
                and x.shape[add.axis] != targets[add.owner]
                else x
                for x, old in zip(args[0], before, strict=True)
            ]
            args = (inputs, *args[1:])
        return op(*args, **kwargs)

    return keras.models.clone_model(
        plain, input_tensors=_inputs(plain), clone_function=make, call_function=call
    )


def _targets(groups, widths):
    """`{owner: new width}` of every group; errors name the layer."""
    by_owner = {g.owner: g for g in groups.groups}
    targets = {g.owner: g.width for g in groups.groups}
    for name, width in dict(widths).items():
        if name not in by_owner:
            raise ValueError(
                f"`widths` names '{name}', which is not a layer that owns a width. "
                f"Expected names among {list(by_owner)}."
            )
        targets[name] = check_width(name, width)
        fixed = by_owner[name].fixed
        if fixed and width != by_owner[name].width:
            raise ValueError(
                f"Layer '{name}' must keep its width of {by_owner[name].width}: {fixed}. "
                f"Received: width {width}"
            )
    return targets


def _inputs(plain):
    """New inputs in the structure of the model's, under the same names."""
    old = {id(x.output): x for x in plain.layers if isinstance(x, layers.InputLayer)}
    return tree.map_structure(
        lambda x: keras.Input(
            batch_shape=x.shape,
            dtype=x.dtype,
            sparse=x.sparse,
            name=old[id(x)].name,
            optional=old[id(x)].optional,
        ),
        plain.input,
    )


def _project(x, width, add, taken, norm, seed):
    """A 1x1 convolution (Dense for vectors) and BN in front of one input of an Add."""
    base = add.name.removesuffix("_add")
    names = (base + PROJECTION.format(n) for n in itertools.chain([""], itertools.count(2)))
    name = next(n for n in names if not {n, _norm_name(n)} & taken)
    taken |= {name, _norm_name(name)}
    settings = {"use_bias": False, "kernel_initializer": "he_normal", "name": name}
    last = add.axis == len(x.shape) - 1
    if len(x.shape) in _POINTWISE:
        settings["data_format"] = "channels_last" if last else "channels_first"
        pointwise = _POINTWISE[len(x.shape)](width, 1, **settings)
    else:
        pointwise = layers.Dense(width, **settings)
    pointwise = type(pointwise).from_config(_seeded(pointwise.get_config(), name, seed))
    return layers.BatchNormalization(axis=-1 if last else add.axis, **norm, name=_norm_name(name))(
        pointwise(x)
    )


def _norm_name(projection):
    return projection.removesuffix("conv") + "bn"


def _seeded(config, name, seed):
    """Give each random initializer (and dropout) of a layer a seed of its own, or leave all as is."""
    if seed is None:
        return config
    for key, value in config.items():
        if isinstance(value, dict) and "seed" in (value.get("config") or {}):
            value["config"]["seed"] = zlib.crc32(f"{seed}/{name}/{key}".encode()) & 0x7FFFFFFF
    if "seed" in config:
        config["seed"] = zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
    return config
