"""What flags describe, made: data, net0, optimizer, learning rates, the callback.

`values` is `FLAGS`, or an object with the flags of a record as attributes (`run.settings`).
"""

import itertools

import keras

from adprune_keras import data, models
from adprune_keras.files import limits
from adprune_keras.prune.callback import ADPrune
from adprune_keras.prune.widths import WidthRule

OPTIMIZERS = ("sgd", "adam", "adamw")
LR_SCHEDULES = ("cosine", "step", "constant")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_WIDEST = 1000  # times the published widths


def load_data(values, processes=(1, 0), replicas=1):
    """Load the data set; `processes` and `replicas` as in `data.load`."""
    return data.load(
        values.dataset,
        batch_size=values.batch_size,
        augment=values.augment,
        image_size=values.image_size,
        train_examples=values.train_examples,
        test_examples=values.test_examples,
        data_dir=values.data_dir,
        download=values.download,
        seed=values.seed,
        processes=processes,
        replicas=replicas,
    )


def build(values, input_shape, classes):
    """Build net0 for images (H, W, C) of so many classes; not compiled."""
    widths = check_widths(values)
    return models.NETWORKS[values.network](input_shape=input_shape, classes=classes, widths=widths)


def check_widths(values):
    """Return the widths of net0, where this machine can hold such a net.

    Raises:
        ValueError: an unknown network, widths that do not fit it, or a net that memory does not hold.
    """
    widths = _widths(values)
    kernel = 1 if values.network == "ResNet50" else 9  # at the least
    least = kernel * sum(abs(a * b) for a, b in itertools.pairwise(widths))
    try:  # weights, gradients and a slot of the optimizer
        limits.check_size("training net0", 3 * 4 * least, limits.memory())
    except ValueError as e:
        raise ValueError(f"The network is too wide. Received: widths={widths}: {e}") from e
    return widths


def _widths(values):
    defaults = models.default_widths(values.network)
    scale = values.width_scale
    if values.widths is None:
        if not 0 < scale <= _WIDEST:
            raise ValueError(f"--width_scale must be above 0, at most {_WIDEST}. Received: {scale}")
        return [max(1, round(w * scale)) for w in defaults.values()]
    if scale != 1.0:
        raise ValueError("--widths and --width_scale exclude each other. Received: both")
    return ints("widths", values.widths)


def ints(name, texts):
    """Return the values of a list flag as ints."""
    try:
        return [int(text) for text in texts]
    except ValueError as e:
        raise ValueError(f"--{name} takes ints, separated by commas. Received: {texts}") from e


def width_rule(values):
    """Return the `WidthRule`."""
    return WidthRule(
        min_width=values.min_width,
        round_to=values.round_to,
        max_shrink=values.max_shrink,
        include=values.include,
        exclude=values.exclude,
    )


def pruner(values, backup_dir, verbose):
    """Return the `ADPrune`, or `None` with --noprune."""
    if not values.prune:
        return None
    return ADPrune(
        min_delta=values.min_delta,
        patience=values.patience,
        min_epochs=values.min_epochs,
        prune_at=None if values.prune_at is None else ints("prune_at", values.prune_at),
        max_prunes=values.max_prunes,
        final_epochs=values.final_epochs,
        rollback=values.rollback,
        weights=values.weights,
        shortcuts=values.shortcuts,
        rule=width_rule(values),
        target_ops_reduction=values.target_ops_reduction,
        backup_dir=backup_dir,
        save_freq=None if backup_dir is None else values.save_freq,
        seed=values.seed,
        verbose=verbose,
    )


def optimizer(values):
    """Return the optimizer."""
    settings = {"learning_rate": values.learning_rate, "weight_decay": values.weight_decay or None}
    if values.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=values.momentum, **settings)
    kind = keras.optimizers.Adam if values.optimizer == "adam" else keras.optimizers.AdamW
    return kind(**settings)


def learning_rate_at(schedule, base, epoch, length):
    """Learning rate of an epoch of a net's training.

    Args:
        schedule: one of `LR_SCHEDULES`.
        base: float, the rate that a net starts from.
        epoch: int, epochs that this net has trained.
        length: int, epochs that it will train.
    """
    if schedule == "constant":
        return base
    if schedule == "step":
        return base * 0.1 ** ((epoch >= length / 2) + (epoch >= length * 3 / 4))
    return float(keras.optimizers.schedules.CosineDecay(base, length)(epoch))
