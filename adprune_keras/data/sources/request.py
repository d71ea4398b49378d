"""The request that a source of images loads."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """The name of a data set, and the options that some source needs to load it; see `data.load`.

    Attributes:
        name: str.
        image_size: int or `None`, pixels that images will be resized to.
        data_dir: path or `None`, where TensorFlow Datasets keeps its data.
        download: bool, whether it may be fetched.
        seed: int, of the split where a source makes one.
    """

    name: str
    image_size: int | None
    data_dir: object
    download: bool
    seed: int

    @property
    def path(self):
        """The name, as a path."""
        return path_of(self.name)


def path_of(name):
    """Return the path that a name of a data set may be."""
    return pathlib.Path(name).expanduser()
