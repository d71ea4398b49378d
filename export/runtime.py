"""What export asks of a runtime, and what all runtimes share.

This file, `runtimes.py` and the file of each runtime import one another relatively and nothing else of
the package, and they import heavy libraries in functions only. So `stopwatch.py` can load them without
the package, and the flags can be checked without TensorFlow.
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import prod

import numpy as np

INPUT, OUTPUT = "image", "logits"  # names of the ports of every file
NAME = "adprune_keras"  # of the package, and of its metadata in a file


@dataclass(frozen=True)
class Port:
    """One input or output of a file.

    Attributes:
        name: str.
        shape: tuple of ints; a dynamic batch is `None`.
        dtype: str.
    """

    name: str
    shape: tuple
    dtype: str


@dataclass
class Count:
    """What a file computes for one image, and what it holds for that.

    Attributes:
        macs: int, of convolutions and dense layers.
        weights: int, elements of their kernels.
        biases: int, elements of their biases. A bias of zeros does not count: some converters drop it,
            others write one where the model has none.
        dtypes: `{dtype of a kernel as it is stored: number of elements}`.
        kernels: set, the names of the kernels that were added.
    """

    macs: int = 0
    weights: int = 0
    biases: int = 0
    dtypes: dict = field(default_factory=dict)
    kernels: set = field(default_factory=set)

    def add(self, kernel, shape, stored, bias, places):
        """Add one call of a layer. A shared layer computes at each call and is stored once.

        Args:
            kernel: what the file calls the kernel; empty or `None` where it has no name.
            shape: tuple of ints, of the kernel.
            stored: str, dtype of the kernel.
            bias: array, or `None`.
            places: int, how many times the kernel is applied.
        """
        self.macs += places * prod(shape)
        if kernel not in (None, "") and kernel in self.kernels:
            return
        self.kernels.add(kernel)
        self.weights += prod(shape)
        self.biases += 0 if bias is None or not np.any(bias) else int(np.size(bias))
        self.dtypes[stored] = self.dtypes.get(stored, 0) + prod(shape)


class File(ABC):
    """An open file.

    Attributes:
        inputs: list of `Port`.
        outputs: list of `Port`.
    """

    inputs: list[Port]
    outputs: list[Port]

    @abstractmethod
    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C), as real numbers."""

    @abstractmethod
    def ready(self, images):
        """Return a function that runs these images and does nothing else, so that it can be timed."""


class Runtime(ABC):
    """One runtime: it makes files, opens them, and reads what is in them.

    Attributes:
        package: str, name of the distribution that runs the files.
        module: str, what is imported from it.
        needs: packages that must be installed to convert, open and check a file.
        snippet: str, code that runs a file; it has the fields `file`, `shape` and `dtype`.
    """

    package: str
    module: str
    needs: tuple[str, ...]
    snippet: str

    def load(self):
        """Import the runtime. Otherwise the first file that is opened does."""
        importlib.import_module(self.module)

    @abstractmethod
    def convert(self, model, path, job):
        """Write a file.

        Args:
            model: inference `keras.Model` of the TensorFlow backend.
            path: where to write.
            job: `convert.Job`.
        """

    @abstractmethod
    def open(self, path, threads=None):
        """Return a file as a `File`; `threads` is an int, or `None` for the runtime's default."""

    @abstractmethod
    def foreign(self, path):
        """Return the operations of a file that are not built in."""

    @abstractmethod
    def count(self, path):
        """Count a file's MACs, weights and biases, as a `Count`.

        The formula is that of `adprune_keras.counting`.

        Raises:
            ValueError: the file leaves a shape open beyond the batch.
        """

    @abstractmethod
    def metadata(self, path):
        """Return a file's metadata as `{key: text}`; `{}` where it has none of ours."""
