"""Directories with one folder per class."""

from adprune_keras.data.sources.request import path_of
from adprune_keras.data.split import Split
from adprune_keras.files import limits

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def takes(name):
    """True for the path of a directory."""
    return bool(name) and path_of(name).is_dir()


def load(request):
    """Return training images, test images and the number of classes.

    The directory holds `train/` and `test/` (or `val/`) with one folder per class. It may also hold
    the folders of the classes themselves: then 20% of the images are for testing.
    """
    import keras

    path, image_size, seed = request.path, request.image_size, request.seed
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
    return Split(images, len(dataset.file_paths))
