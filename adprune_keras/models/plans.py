"""A network as a plan: the layers that own a width, in graph order, with their default widths."""

from adprune_keras.graph.cut import check_width

# Convolutions in each of the five stages, and the width that a stage starts from.
VGG_STAGES = {"VGG11": (1, 1, 2, 2, 2), "VGG13": (2, 2, 2, 2, 2)}
VGG_STAGES |= {"VGG16": (2, 2, 3, 3, 3), "VGG19": (2, 2, 4, 4, 4)}
VGG_STAGES |= {"VGG19First8": (2, 2, 4, 0, 0)}
_VGG_WIDTHS = (64, 128, 256, 512, 512)
# Blocks in each of the four stages, and the width of each convolution of a block as a multiple of
# the stage's width: two 3x3 (basic block) or 1x1, 3x3, 1x1 (bottleneck).
RESNET_STAGES = {"ResNet18": (2, 2, 2, 2), "ResNet34": (3, 4, 6, 3), "ResNet50": (3, 4, 6, 3)}
RESNET_BLOCKS = {"ResNet18": (1, 1), "ResNet34": (1, 1), "ResNet50": (1, 1, 4)}
_RESNET_WIDTHS = (64, 128, 256, 512)


def vgg_plan(network):
    """Return `{layer name: default width}` of a VGG, in the order of the paper's Table I."""
    return {
        f"block{stage}_conv{i}": width
        for stage, (depth, width) in enumerate(
            zip(VGG_STAGES[network], _VGG_WIDTHS, strict=True), start=1
        )
        for i in range(1, depth + 1)
    }


def resnet_plan(network):
    """Return `{layer name: default width}` of a ResNet, in the order of the paper's Table I."""
    widths = {"stem_conv": _RESNET_WIDTHS[0]}
    stages = zip(RESNET_STAGES[network], _RESNET_WIDTHS, strict=True)
    for stage, (blocks, width) in enumerate(stages, start=1):
        for block in range(1, blocks + 1):
            for i, multiple in enumerate(RESNET_BLOCKS[network], start=1):
                widths[f"stage{stage}_block{block}_conv{i}"] = width * multiple
    return widths


def resolve_widths(names, default, widths, network):
    """Merge what the user asked for into a plan's default widths.

    Args:
        names: layer names that own a width, in the order of the paper's Table I.
        default: their default widths, ints, same order.
        widths: `None` (the default widths), a list or tuple with one int for each name, or a dict
            `{layer name: width}` that may name some layers only.
        network: name of the network, for messages.

    Returns:
        `{layer name: width}` for all of `names`.

    Raises:
        ValueError: wrong length, unknown layer name, or a width that is not a positive int.
    """
    if widths is None:
        return dict(zip(names, default, strict=True))
    if isinstance(widths, dict):
        unknown = sorted(set(widths) - set(names))
        if unknown:
            raise ValueError(
                f"`widths` names layers that {network} does not have: {unknown}. "
                f"Expected names among {list(names)}."
            )
        wanted = {name: widths.get(name, d) for name, d in zip(names, default, strict=True)}
    else:
        widths = list(widths)
        if len(widths) != len(names):
            raise ValueError(
                f"{network} has {len(names)} layers that own a width, so `widths` must have "
                f"{len(names)} entries (or be a dict by layer name). "
                f"Received: {len(widths)} entries, widths={widths}"
            )
        wanted = dict(zip(names, widths, strict=True))
    return {name: check_width(name, width) for name, width in wanted.items()}


def check_input(input_shape, classes):
    """Check the arguments that every factory shares: (H, W, C) and the number of classes."""
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(d, int) and d >= 1 for d in shape):
        raise ValueError(
            "`input_shape` must be three positive ints (height, width, channels). "
            f"Received: input_shape={input_shape}"
        )
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be an int of at least 1. Received: classes={classes!r}")
    return shape
