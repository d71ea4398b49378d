"""Images from wherever they are, as `tf.data` batches ready for `fit`: the same for every source.

Sources: `digits` (scikit-learn's real handwritten digits, bundled), a `.npz` file in Keras' layout,
a directory with one folder per class, or any image data set of TensorFlow Datasets by name.
Pixels leave here as float32, scaled per channel to mean 0 and deviation 1 over the training images.
"""

import contextlib
import math
import pathlib
import re
import socket
import sys
import urllib.parse
from dataclasses import dataclass

import numpy as np

from adprune_keras import limits, resident
from adprune_keras.names import did_you_mean, printable

AUGMENTATIONS = ("auto", "none", "crop", "crop_flip")
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_STATISTICS_FROM = 10_000  # images; more move a mean or deviation by less than training notices
_CACHE_BYTES = 4 << 30
_LABELS_FROM = 10_000  # examples of a split whose labels are looked at, where all would take too long
# A name, its configuration and its version: never a namespace, from which code would be fetched and run.
_TFDS_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?", re.ASCII)
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


@dataclass(frozen=True)
class _Split:
    """Single images of one split: a `tf.data.Dataset` of (uint8 (H, W, C), int label)."""

    images: object
    examples: int


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
        train, test, classes = _digits()
    elif path.suffix == ".npz":
        train, test, classes = _npz(path)
    elif name and path.is_dir():
        train, test, classes = _folders(path, image_size, seed)
    else:
        train, test, classes = _tfds(name, data_dir, download)
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
        sample, _ = next(iter(_scaled(test.images.batch(1), mean, std)))
    augment = _resolve(augment, shape)
    epochs, steps = _training_batches(train, batch_size, mean, std, augment, seed, processes, replicas)

    def from_epoch(first):
        if processes[0] * replicas == 1 and _fits_on_device(train):
            return resident.epochs(*_read(name, train), batch_size, mean, std, augment, seed)(first)
        return epochs(tf.data.Dataset.range(first, _FOREVER))

    return Data(
        train=_any_epoch(epochs, steps, seed),
        epochs=from_epoch,
        steps=steps,
        test=_test_batches(test, batch_size, mean, std, processes, replicas),
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


def _digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return _arrays(x_train, y_train), _arrays(x_test, y_test), 10


def _npz(path):
    if not path.is_file():
        raise ValueError(f"There is no such file. Received: {path}")
    try:
        arrays = limits.read_npz(path, limits.memory() // 2, _NPZ_KEYS)
        classes = 1 + max(int(_checked(arrays, part).max()) for part in ("train", "test"))
    except ValueError as e:
        raise ValueError(
            "An .npz data set holds the arrays x_train, x_test of uint8 images (N, H, W[, C]) and "
            f"y_train, y_test of int labels (N,). Received: {path}, but {e}"
        ) from e
    train_classes = 1 + int(arrays["y_train"].max())
    if classes > train_classes or len(np.unique(arrays["y_train"])) < train_classes:
        raise ValueError(
            f"Labels of {path} are out of range: they must run from 0 to the number of classes "
            f"minus 1, and each class needs a training image. Received: {classes - 1} as the highest "
            f"label, {len(np.unique(arrays['y_train']))} different labels in y_train"
        )
    return (
        _arrays(arrays["x_train"], arrays["y_train"]),
        _arrays(arrays["x_test"], arrays["y_test"]),
        classes,
    )


def _checked(arrays, part):
    """Return the labels of one part of an npz, after checks; messages complete a sentence."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise ValueError(f"x_{part} has shape {x.shape} and dtype {x.dtype}")
    if y.dtype.kind not in "iu" or y.ndim == 0 or y.size != len(y):
        raise ValueError(f"y_{part} has shape {y.shape} and dtype {y.dtype}")
    if not len(x) or len(x) != len(y):
        raise ValueError(f"{part} has {len(x)} images and {len(y)} labels")
    if y.min() < 0:
        raise ValueError(f"y_{part} has the label {y.min()}, below 0")
    return y


def _arrays(x, y):
    import tensorflow as tf

    x = x[..., None] if x.ndim == 3 else x
    return _Split(tf.data.Dataset.from_tensor_slices((x, y.reshape(-1).astype("int64"))), len(x))


def _folders(path, image_size, seed):
    """`train/` and `test/` (or `val/`) with a folder per class, or such folders alone: 20% are test."""
    import keras

    tests = [d for d in ("test", "val", "validation") if (path / d).is_dir()]
    size = (image_size,) * 2 if image_size else _first_size(path)
    settings = {"label_mode": "int", "batch_size": None, "image_size": size, "verbose": False}
    try:
        if (path / "train").is_dir() and tests:
            train, test = (
                keras.utils.image_dataset_from_directory(path / d, shuffle=s, seed=seed, **settings)
                for d, s in (("train", True), (tests[0], False))
            )
        else:
            train, test = keras.utils.image_dataset_from_directory(
                path, seed=seed, validation_split=0.2, subset="both", **settings
            )
    except ValueError as e:
        raise ValueError(f"No images in one folder per class. Received: {path}: {e}") from e
    if train.class_names != test.class_names:
        raise ValueError(
            "Training and test folders must hold the same classes. Received: "
            f"{len(train.class_names)} and {len(test.class_names)} of them in {path}"
        )
    for file in (*train.file_paths, *test.file_paths):
        limits.image_size(file)
    return *(_from_files(d) for d in (train, test)), len(train.class_names)


def _first_size(path):
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _IMAGE_SUFFIXES:
            return limits.image_size(file)
    raise ValueError(f"No images in one folder per class. Received: {path}, which has no image")


def _from_files(dataset):
    import tensorflow as tf

    images = dataset.map(
        lambda x, y: (tf.cast(tf.round(x), tf.uint8), tf.cast(y, tf.int64)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _Split(images, len(dataset.file_paths))


@contextlib.contextmanager
def _importing_nothing(name):
    """Let a prepared data set name the classes of its features only where their modules are imported.

    TensorFlow Datasets imports any module that `features.json` in a folder names, and a folder may come
    from elsewhere. Its own features are imported with it; those of a user's own are where the user has
    imported them.
    """
    import tensorflow_datasets as tfds

    features, refused = tfds.features.FeatureConnector, []
    original, cls_from_name = vars(features)["cls_from_name"], features.cls_from_name

    def known_class(cls, python_class_name):
        if python_class_name.rpartition(".")[0] not in sys.modules:
            refused.append(python_class_name)
            raise ValueError(f"no such class is imported: {python_class_name}")
        return cls_from_name(python_class_name)

    features.cls_from_name = classmethod(known_class)
    try:
        yield
    except Exception as e:
        if not refused:
            raise
        raise ValueError(
            "A prepared data set may only use features of TensorFlow Datasets, as others are code from "
            f"elsewhere. Received: '{name}' with the feature class {printable(refused[0])!r}. If it is "
            "yours, import its module first."
        ) from e
    finally:
        features.cls_from_name = original


def _tfds(name, data_dir, download):
    with _importing_nothing(name):
        return _prepared(name, data_dir, download)


def _prepared(name, data_dir, download):
    import tensorflow_datasets as tfds

    import adprune_keras.tiny_imagenet  # noqa: F401  TensorFlow Datasets knows it from here on

    try:
        if not _TFDS_NAME.fullmatch(name):
            raise ValueError
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as e:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "A data set is 'digits', an .npz file, a directory with one folder per class, or a name "
            f"of TensorFlow Datasets. Received: {name!r}, which is none of them."
            f"{did_you_mean(name, known)}"
        ) from e
    if not builder.is_prepared():
        _fetch(builder, name, download)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise ValueError(
            f"TensorFlow Datasets has '{name}', but it is no image classification set. "
            f"Received: features {sorted(features)}, expected 'image' and 'label'"
        )
    test_name = next((s for s in ("test", "validation") if s in builder.info.splits), None)
    if test_name is None or "train" not in builder.info.splits:
        raise ValueError(
            f"'{name}' needs a train and a test (or validation) split. "
            f"Received: splits {sorted(builder.info.splits)}"
        )
    classes = features["label"].num_classes
    for split in ("train", test_name):
        _check_labels(builder, split, classes)
    splits = (
        _Split(
            builder.as_dataset(split=s, as_supervised=True, shuffle_files=False),
            builder.info.splits[s].num_examples,
        )
        for s in ("train", test_name)
    )
    return *splits, classes


def _check_labels(builder, split, classes):
    """Refuse labels outside the classes, such as the -1 of test images without labels."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()}
    ).take(_LABELS_FROM)
    for labels in examples.map(lambda example: example["label"]).batch(1024).as_numpy_iterator():
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"Labels must run from 0 to the number of classes minus 1. Received: {labels.min()} to "
                f"{labels.max()} in split '{split}' of '{builder.name}', which has {classes} classes"
            )


def _fetch(builder, name, download):
    """Download and prepare, if that was asked for and can work; else say how to get the data."""
    from adprune_keras import tiny_imagenet

    other_way = (
        f"prepare it elsewhere (`tfds build {name}`) and give the folder as data_dir (`--data_dir`)"
    )
    if name == tiny_imagenet.NAME:
        by_hand = builder.data_dir_root / "downloads" / "manual"
        if tiny_imagenet.manual_source(by_hand):
            return builder.download_and_prepare()
        other_way = f"put the official {tiny_imagenet.FOLDER}.zip into {by_hand}"
    ways = f"Either run once with download on (`--download`) where there is a network, or {other_way}."
    if not download:
        raise ValueError(f"'{name}' is not prepared in {builder.data_dir}. {ways}")
    host = urllib.parse.urlparse(builder.info.homepage).hostname
    try:  # TensorFlow Datasets itself retries for minutes without a network
        socket.create_connection((host, 443), timeout=5).close()
    except OSError as e:
        raise ValueError(f"'{name}' cannot be downloaded from {host}: {e}. {ways}") from e
    builder.download_and_prepare()


def _resized(split, image_size):
    import tensorflow as tf

    if not image_size:
        return split

    def resize(x, y):
        x = tf.image.resize(x, (image_size, image_size), antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(x, 0, 255)), tf.uint8), y

    return _Split(split.images.map(resize, num_parallel_calls=tf.data.AUTOTUNE), split.examples)


def _first(split, examples):
    if examples is None or examples >= split.examples:
        return split
    return _Split(split.images.take(examples), examples)


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


def _training_batches(split, batch_size, mean, std, augment, seed, processes, replicas):
    """Return a function from a data set of epochs' numbers to all their batches, and batches an epoch.

    Each epoch is shuffled and augmented by the seed and its number: state inside `tf.data` would start
    afresh in a new process.
    """
    import tensorflow as tf

    images = _cached(split)

    def epoch(number):
        # Of this function's graph alone; beside a tensor TensorFlow cannot take a global seed of 0.
        tf.compat.v1.set_random_seed(1)
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int64), number)
        place = tf.random.fold_in(key, number)[0]  # once more: a key begins as the one it comes from
        order = images.shuffle(min(split.examples, 50_000), seed=place, reshuffle_each_iteration=False)
        batches = _shared(order.batch(batch_size), split.examples, batch_size, processes, replicas)
        keys = tf.data.Dataset.counter().map(lambda step: tf.random.fold_in(key, step))
        return tf.data.Dataset.zip(batches, keys)

    def epochs(numbers):
        batches = numbers.flat_map(epoch).map(
            lambda batch, key: (
                batch[0] if augment is None else _augmented(batch[0], key, augment == "crop_flip"),
                batch[1],
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return _scaled(batches, mean, std)

    return epochs, _steps(split.examples, batch_size, processes[0] * replicas)


def _fits_on_device(split):
    """Return whether Keras takes batches from the device, and that holds all images beside the rest."""
    import keras

    if keras.backend.backend() != "jax":
        return False
    import jax

    size = split.examples * split.images.element_spec[0].shape.num_elements()
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", _CACHE_BYTES)
    return size <= memory // 8


def _read(name, split):
    """Return all images and labels of a split as arrays."""
    with reading(name):
        parts = list(split.images.batch(1024).as_numpy_iterator())
    return (np.concatenate(part) for part in zip(*parts, strict=True))


def _any_epoch(epochs, steps, seed):
    """One epoch, another one each time."""
    import tensorflow as tf

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    return epochs(numbers).apply(tf.data.experimental.assert_cardinality(steps))


def _steps(examples, batch_size, devices):
    full, rest = divmod(examples, batch_size)
    return full + (rest >= devices)


def _test_batches(split, batch_size, mean, std, processes, replicas):
    batches = _shared(_cached(split).batch(batch_size), split.examples, batch_size, processes, replicas)
    return _scaled(batches, mean, std)


def _shared(batches, examples, batch_size, processes, replicas):
    """One process's share of every batch: as many images, in as many batches, as the others get."""
    import tensorflow as tf

    many, process = processes
    devices = many * replicas
    if devices == 1:
        return batches

    def share(x, y):
        end = tf.shape(x)[0] // devices * devices
        return x[process:end:many], y[process:end:many]

    return batches.map(share, num_parallel_calls=tf.data.AUTOTUNE).take(
        _steps(examples, batch_size, devices)
    )


def _cached(split):
    small = split.examples * split.images.element_spec[0].shape.num_elements() < _CACHE_BYTES
    return split.images.cache() if small else split.images


def _scaled(batches, mean, std):
    import tensorflow as tf

    mean, std = np.asarray(mean, "float32"), np.asarray(std, "float32")
    return batches.map(
        lambda x, y: ((tf.cast(x, tf.float32) - mean) / std, y),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def _augmented(x, seed, flip):
    """Shift each image of a uint8 batch by up to an eighth, on its own; mirror half of them."""
    import tensorflow as tf

    count, (height, width) = tf.shape(x)[0], x.shape[1:3]
    pad_y, pad_x = height // 8, width // 8
    x = tf.pad(x, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    for axis, size, pad in ((1, height, pad_y), (2, width, pad_x)):
        offset = tf.random.stateless_uniform((count, 1), seed + axis, 0, 2 * pad + 1, tf.int32)
        x = tf.gather(x, offset + tf.range(size), axis=axis, batch_dims=1)
    if flip:
        mirrored = tf.random.stateless_uniform((count, 1, 1, 1), seed + 3) < 0.5
        x = tf.where(mirrored, tf.reverse(x, [2]), x)
    return x
