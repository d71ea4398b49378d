"""Images from wherever they are, as `tf.data` batches ready for `fit`: the same for every source.

Sources: `digits` (scikit-learn's real handwritten digits, bundled), a `.npz` file in Keras' layout,
a directory with one folder per class, or any image data set of TensorFlow Datasets by name.
Pixels leave here as float32, scaled per channel to mean 0 and deviation 1 over the training images.
"""

import contextlib
import math
import pathlib
from dataclasses import dataclass

import numpy as np

from adprune_keras.data import resident
from adprune_keras.data.batches import any_epoch, fits_on_device, scaled, test_batches, training_batches
from adprune_keras.data.settings import AUGMENTATIONS
from adprune_keras.data.sources.digits import digits
from adprune_keras.data.sources.folders import folders
from adprune_keras.data.sources.npz import npz
from adprune_keras.data.sources.tfds import tfds_images
from adprune_keras.data.split import Split
from adprune_keras.files import limits

_STATISTICS_FROM = 10_000  # images; more move a mean or deviation by less than training notices
_FOREVER = 1 << 62  # epochs
_BATCHES = ("train", "epochs", "steps", "test", "sample")  # what of `Data` is no plain data


@dataclass(frozen=True)
class Data:
    """Training and test batches, and what is known of them.

    Attributes:
        train: `tf.data.Dataset` of (float32 images (N, H, W, C), int labels (N,)), shuffled anew
            each time it is run through, augmented.
        epochs: function of the number of an epoch: the like, without an end, from that epoch on. On
            JAX, where all images fit on the one device that trains, a generator that makes its
            batches there.
            What an epoch holds follows from the seed and its number alone, so that a run that goes
            on in a new process sees what it would have seen.
        steps: int, batches an epoch.
        test: likewise, in fixed order and untouched but for the scaling.
        sample: float32 array (1, H, W, C), the first test image as `test` has it. An iteration of `test`
            that is broken off could leave its cache without an image that cannot be decoded.
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
        """Say how pixels are scaled, for whoever brings a network that was trained elsewhere."""
        mean, std = (", ".join(f"{v:.1f}" for v in values) for values in (self.mean, self.std))
        return (
            f"Pixels (0 to 255) are scaled by mean {mean} and deviation {std}. A network that was "
            "trained on other scaling gives other figures: put a Rescaling layer into it, or use Python."
        )

    def facts(self):
        """Return all but the batches, as plain data."""
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
        train_examples: int or `None`: use the first so many training images.
        test_examples: int or `None`: likewise for the test images.
        data_dir: where TensorFlow Datasets has, or puts, its prepared data. Defaults to its own.
        download: bool, let TensorFlow Datasets fetch what is not there. Defaults to `False`.
        seed: int, of the order and the augmentation.
        processes: how many processes train together, and the number of this one, as
            `devices.processes()` returns them. Each gets its equal share of every batch of `batch_size`;
            what is left over of a batch (fewer images than processes) nobody gets.
        replicas: int, devices that each process trains on: each gets equally many images too. A batch
            with fewer images than devices kills TensorFlow, and Keras on JAX takes no uneven one.

    Returns:
        A `Data`.

    Raises:
        ValueError: unknown or damaged source, labels out of range, fewer than two classes, images of
            mixed sizes, or too large for this machine.
    """
    import tensorflow as tf

    if augment not in AUGMENTATIONS:
        raise ValueError(f"`augment` must be one of {AUGMENTATIONS}. Received: augment={augment!r}")
    for argument, value in (
        *(("batch_size", batch_size), ("image_size", image_size or 1)),
        *(("train_examples", train_examples or 1), ("test_examples", test_examples or 1)),
    ):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{argument}` must be an int of at least 1. Received: {value!r}")
    path = pathlib.Path(name).expanduser()
    if name == "digits":
        train, test, classes = digits()
    elif path.suffix == ".npz":
        train, test, classes = npz(path)
    elif name and path.is_dir():
        train, test, classes = folders(path, image_size, seed)
    else:
        train, test, classes = tfds_images(name, data_dir, download)
    train, test = _resized(train, image_size), _resized(test, image_size)
    train, test = _first(train, train_examples), _first(test, test_examples)
    shape = tuple(train.images.element_spec[0].shape)
    if None in shape:
        raise ValueError(
            f"The images of '{name}' differ in size. Received: image shape {shape}. "
            "Give `image_size` to resize them all."
        )
    _check(name, (train, test), classes, batch_size, processes[0] * replicas)
    with reading(name):
        mean, std = _statistics(train.images)
        sample, _ = next(iter(scaled(test.images.batch(1), mean, std)))
    augment = _resolve(augment, shape)
    epochs, steps = training_batches(train, batch_size, mean, std, augment, seed, processes, replicas)

    def from_epoch(first):
        if processes[0] * replicas == 1 and fits_on_device(train):
            return resident.epochs(*_read(name, train), batch_size, mean, std, augment, seed)(first)
        return epochs(tf.data.Dataset.range(first, _FOREVER))

    return Data(
        train=any_epoch(epochs, steps, seed),
        epochs=from_epoch,
        steps=steps,
        test=test_batches(test, batch_size, mean, std, processes, replicas),
        sample=sample.numpy(),
        classes=classes,
        input_shape=shape,
        mean=mean,
        std=std,
        train_examples=train.examples,
        test_examples=test.examples,
    )


@contextlib.contextmanager
def reading(name):
    """Run a block that reads images: one that cannot be decoded is a `ValueError` that names the set.

    Headers are looked at when a set is loaded; what lies behind them shows when it is read.

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


def _check(name, splits, classes, batch_size, devices):
    """Refuse what cannot be trained on, before the first image is read."""
    train, test = shapes = [tuple(split.images.element_spec[0].shape) for split in splits]
    if train != test or 0 in train:
        raise ValueError(
            "Training and test images must have the same shape (H, W, C), none of it 0. "
            f"Received: {train} and {test} in '{name}'"
        )
    if classes < 2:
        raise ValueError(f"A classifier needs two classes or more. Received: {classes} in '{name}'")
    examples = [split.examples for split in splits]
    if min(batch_size, *examples) < devices:
        raise ValueError(
            "Each device needs an image of a batch: `batch_size`, training and test images must each be "
            f"at least the number of devices. Received: batch_size={batch_size}, {examples[0]} training "
            f"and {examples[1]} test images, {devices} devices"
        )
    pixels = min(batch_size, max(examples)) * math.prod(shapes[0])
    try:
        limits.check_size(f"a batch of {train} images", 4 * pixels, limits.memory() // 2)
    except ValueError as e:
        raise ValueError(f"Images are too large. Received: '{name}': {e}. Give `image_size`.") from e


def _resized(split, image_size):
    import tensorflow as tf

    if not image_size:
        return split

    def resize(x, y):
        x = tf.image.resize(x, (image_size, image_size), antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(x, 0, 255)), tf.uint8), y

    return Split(split.images.map(resize, num_parallel_calls=tf.data.AUTOTUNE), split.examples)


def _first(split, examples):
    if examples is None or examples >= split.examples:
        return split
    return Split(split.images.take(examples), examples)


def _statistics(images):
    """Mean and deviation per channel over the first training images, in pixel units."""
    count, total, squares = 0, 0.0, 0.0
    for x, _ in images.take(_STATISTICS_FROM).batch(256).as_numpy_iterator():
        pixels = x.reshape(-1, x.shape[-1]).astype(np.float64)
        count += len(pixels)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a channel of one colour has none
    return tuple(mean.tolist()), tuple(std.tolist())


def _resolve(augment, shape):
    if augment == "auto":
        return "crop_flip" if min(shape[:2]) >= 24 and shape[-1] >= 3 else None
    return None if augment == "none" else augment


def _read(name, split):
    """Return all images and labels of a split as arrays."""
    with reading(name):
        parts = list(split.images.batch(1024).as_numpy_iterator())
    return (np.concatenate(part) for part in zip(*parts, strict=True))
