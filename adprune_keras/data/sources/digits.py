"""scikit-learn's handwritten digits, which are always there."""

import numpy as np

from adprune_keras.data.split import from_arrays
from adprune_keras.files.packages import need


def takes(name):
    """True for `"digits"`."""
    return name == "digits"


def load(request):
    """Return training images, test images and the number of classes."""
    need("The digits", "sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return from_arrays(x_train, y_train), from_arrays(x_test, y_test), 10
