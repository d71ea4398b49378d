"""NumPy files in Keras' layout."""

import numpy as np

from adprune_keras.data.sources.request import path_of
from adprune_keras.data.split import from_arrays
from adprune_keras.files import limits

_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


def takes(name):
    """True for the path of an `.npz` file."""
    return path_of(name).suffix == ".npz"


def load(request):
    """Return training images, test images and the number of classes."""
    path = request.path
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
        from_arrays(arrays["x_train"], arrays["y_train"]),
        from_arrays(arrays["x_test"], arrays["y_test"]),
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
