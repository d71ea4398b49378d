"""What settings describe, made: data, net0, optimizer, learning rates, the callback."""

import keras

from adprune_keras import data, models
from adprune_keras.prune.callback import ADPrune


def load_data(source, images, training, processes=(1, 0), replicas=1):
    """Load the data set; `processes` and `replicas` as in `data.load`."""
    return data.load(
        source.dataset,
        batch_size=training.batch_size,
        augment=images.augment,
        image_size=source.image_size,
        train_examples=images.train_examples,
        test_examples=images.test_examples,
        data_dir=source.data_dir,
        download=source.download,
        seed=training.seed,
        processes=processes,
        replicas=replicas,
    )


def build(network, input_shape, classes):
    """Build net0 for images (H, W, C) of so many classes; not compiled."""
    widths = network.resolved()
    return models.NETWORKS[network.network](input_shape=input_shape, classes=classes, widths=widths)


def pruner(run, backup_dir, verbose):
    """Return the `ADPrune` of a `settings.Run`, or `None` with --noprune."""
    if not run.training.prune:
        return None
    return ADPrune(
        **vars(run.pruning),
        schedule=run.schedule,
        rule=run.rule,
        backup_dir=backup_dir,
        save_freq=None if backup_dir is None else run.output.save_freq,
        seed=run.training.seed,
        verbose=verbose,
    )


def optimizer(training):
    """Return the optimizer."""
    values = {"learning_rate": training.learning_rate, "weight_decay": training.weight_decay or None}
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=training.momentum, **values)
    kind = keras.optimizers.Adam if training.optimizer == "adam" else keras.optimizers.AdamW
    return kind(**values)


def learning_rate_at(schedule, base, epoch, length):
    """Learning rate of an epoch of a net's training.

    Args:
        schedule: one of `settings.LR_SCHEDULES`.
        base: float, the rate that a net starts from.
        epoch: int, epochs that this net has trained.
        length: int, epochs that it will train.
    """
    if schedule == "constant":
        return base
    if schedule == "step":
        return base * 0.1 ** ((epoch >= length / 2) + (epoch >= length * 3 / 4))
    return float(keras.optimizers.schedules.CosineDecay(base, length)(epoch))
