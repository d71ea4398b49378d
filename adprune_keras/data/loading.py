"""Images from wherever they are, as `tf.data` batches ready for `fit`: the same for every source.

`sources/registry.py` lists where images come from: scikit-learn's handwritten digits, `.npz` files,
directories with one folder per class, and TensorFlow Datasets.
Pixels leave here as float32, scaled per channel to mean 0 and deviation 1 over the training images.
"""

import contextlib
import math
from dataclasses import dataclass

import numpy as np

from adprune_keras.data import resident
from adprune_keras.data.batches import any_epoch, fits_on_device, scaled, test_batches, training_batches
from adprune_keras.data.settings import AUGMENTATIONS
from adprune_keras.data.sources.registry import source_of
from adprune_keras.data.sources.request import Request
from adprune_keras.files import limits
from adprune_keras.files.packages import need

_FOREVER = 1 << 62  # epochs
_BATCHES = (
    "train",
    "epochs",
    "steps",
    "test",
    "sample",
)  # the attributes of `Data` that are not plain data


@dataclass(frozen=True)
class Data:
    """Training and test batches, and what is known of them.

    Attributes:
        train: `tf.data.Dataset` of (float32 images (N, H, W, C), int labels (N,)), augmented, and
            shuffled in another order each time it is run through.
        epochs: function that takes the number of an epoch. It returns a data set like `train`, without
            an end, from that epoch on. On JAX, where all images fit on the one device that trains, it
            returns a generator that makes its batches there. The content of an epoch depends only on
            the seed and its number, so a run that resumes in a new process sees the same images.
        steps: int, batches an epoch.
        test: `tf.data.Dataset` like `train`, in fixed order, scaled but not augmented.
        sample: float32 array (1, H, W, C), the first test image as `test` has it. It is read apart: an
            iteration of `test` that stops early could leave its cache without an image that cannot be
            decoded.
        classes: int, number of classes.
        input_shape: (H, W, C).
        mean: tuple of C floats in pixel units (0 to 255), subtracted from each pixel.
        std: tuple of C floats in pixel units, each pixel is divided by it.
        train_examples: int.
        test_examples: int.
    """

    train: object
    epochs: object
    steps: int
    test: object
    sample: np.ndarray
    classes: int
    input_shape: tuple
    mean: tuple
    std: tuple
    train_examples: int
    test_examples: int

    def scaling(self):
        """Say how pixels are scaled, for users of a network that was trained on other data."""
        mean, std = (", ".join(f"{v:.1f}" for v in values) for values in (self.mean, self.std))
        return (
            f"Pixels (0 to 255) are scaled by mean {mean} and deviation {std}. A network that was "
            "trained on other scaling gives other figures: put a Rescaling layer into it, or use Python."
        )

    def facts(self):
        """Return everything but the batches, as plain data."""
        return {k: v for k, v in vars(self).items() if k not in _BATCHES}


def load(
    name,
    *,
    batch_size=128,
    augment="auto",
    image_size=None,
    train_examples=None,
    test_examples=None,
    data_dir=None,
    download=False,
    seed=0,
    processes=(1, 0),
    replicas=1,
):
    """Load a data set as batches for `fit` and `evaluate`.

    Args:
        name: `"digits"`, the path of an `.npz` file with `x_train y_train x_test y_test`, the path of
            a directory with one folder per class, or a name of TensorFlow Datasets (`"cifar10"`).
        batch_size: int. Defaults to 128, the paper's.
        augment: `"none"`, `"crop"` (shift each image by up to an eighth of its size), `"crop_flip"`
            (and mirror half of them), or `"auto"` (default): crop and flip for colour images of 24
            pixels or more, nothing for others.
        image_size: int or `None`: resize images to that many pixels square. Needed where images of a
            set differ in size.
        train_examples: int or `None`: use only that many training images, the first ones.
        test_examples: int or `None`: use only that many test images, the first ones.
        data_dir: where TensorFlow Datasets has, or puts, its prepared data. Defaults to its own.
        download: bool, let TensorFlow Datasets fetch what is not there. Defaults to `False`.
        seed: int, of the order and the augmentation.
        processes: how many processes train together, and the number of this one, as
            `devices.processes()` returns them. Each gets an equal share of every batch of `batch_size`.
            The remainder (fewer images than processes) is dropped.
        replicas: int, devices that each process trains on. Each gets equally many images too, as
            TensorFlow crashes on a batch with fewer images than devices, and Keras on JAX refuses
            batches that it cannot divide evenly.

    Returns:
        A `Data`.

    Raises:
        ValueError: unknown or damaged source, labels out of range, fewer than two classes, images of
            mixed sizes, or too large for this machine.
        ImportError: TensorFlow, or the package of a source, is not installed.
    """
    devices = processes[0] * replicas
    _check_arguments(augment, batch_size, image_size, train_examples, test_examples)
    need("Loading images", "tensorflow")
    request = Request(name, image_size, data_dir, download, seed)
    train, test, classes = source_of(name).load(request)
    train = train.resized(image_size).first(train_examples)
    test = test.resized(image_size).first(test_examples)
    _check(name, train, test, classes, batch_size, devices)
    with reading(name):
        mean, std = train.statistics()
        sample, _ = next(iter(scaled(test.images.batch(1), mean, std)))
    augment = _resolve(augment, train.shape)
    epochs, steps = training_batches(train, batch_size, mean, std, augment, seed, processes, replicas)

    def from_epoch(first):
        import tensorflow as tf

        if devices == 1 and fits_on_device(train):
            with reading(name):
                images, labels = train.arrays()
            return resident.epochs(images, labels, batch_size, mean, std, augment, seed)(first)
        return epochs(tf.data.Dataset.range(first, _FOREVER))

    return Data(
        train=any_epoch(epochs, steps, seed),
        epochs=from_epoch,
        steps=steps,
        test=test_batches(test, batch_size, mean, std, processes, replicas),
        sample=sample.numpy(),
        classes=classes,
        input_shape=train.shape,
        mean=mean,
        std=std,
        train_examples=train.examples,
        test_examples=test.examples,
    )


@contextlib.contextmanager
def reading(name):
    """Run a block that reads images; raise `ValueError` with the set's name if one cannot be decoded.

    Headers are checked when a set is loaded. Damage behind them shows only when an image is read.

    Args:
        name: str, as `load` takes it.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as e:
        if "decod" not in str(e).lower():
            raise
        raise ValueError(f"An image cannot be decoded. Received: '{name}': {e.message}") from e


def _check_arguments(augment, batch_size, image_size, train_examples, test_examples):
    """Refuse arguments that no data set can be loaded with."""
    if augment not in AUGMENTATIONS:
        raise ValueError(f"`augment` must be one of {AUGMENTATIONS}. Received: augment={augment!r}")
    counts = {
        "batch_size": batch_size,
        "image_size": image_size or 1,
        "train_examples": train_examples or 1,
        "test_examples": test_examples or 1,
    }
    for argument, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{argument}` must be an int of at least 1. Received: {value!r}")


def _check(name, train, test, classes, batch_size, devices):
    """Refuse images that cannot be trained on, before the first one is read."""
    if None in train.shape:
        raise ValueError(
            f"The images of '{name}' differ in size. Received: image shape {train.shape}. "
            "Give `image_size` to resize them all."
        )
    if train.shape != test.shape or 0 in train.shape:
        raise ValueError(
            "Training and test images must have the same shape (H, W, C), none of it 0. "
            f"Received: {train.shape} and {test.shape} in '{name}'"
        )
    if classes < 2:
        raise ValueError(f"A classifier needs two classes or more. Received: {classes} in '{name}'")
    examples = train.examples, test.examples
    if min(batch_size, *examples) < devices:
        raise ValueError(
            "Each device needs an image of a batch: `batch_size`, training and test images must each be "
            f"at least the number of devices. Received: batch_size={batch_size}, {examples[0]} training "
            f"and {examples[1]} test images, {devices} devices"
        )
    pixels = min(batch_size, max(examples)) * math.prod(train.shape)
    try:
        limits.check_size(f"a batch of {train.shape} images", 4 * pixels, limits.memory() // 2)
    except ValueError as e:
        raise ValueError(f"Images are too large. Received: '{name}': {e}. Give `image_size`.") from e


def _resolve(augment, shape):
    if augment == "auto":
        return "crop_flip" if min(shape[:2]) >= 24 and shape[-1] >= 3 else None
    return None if augment == "none" else augment
