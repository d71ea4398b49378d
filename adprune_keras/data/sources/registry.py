"""Where images come from.

A source is a module. `takes(name)` says whether it loads the data set of that name, and `load(request)`
returns training images, test images (each a `Split`) and the number of classes.
"""

from adprune_keras.data.sources import digits, folders, npz, tfds

# The first that takes a name loads it. TensorFlow Datasets takes every name that the others leave.
SOURCES = (
    digits,
    npz,
    folders,
    tfds,
)


def source_of(name):
    """Return the source of a data set."""
    return next(source for source in SOURCES if source.takes(name))
