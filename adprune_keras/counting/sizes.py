"""Predict the sizes of exported files from the rows of a `count.Cost`.

A file holds the deployed parameters in its format's types, what quantisation keeps for each channel,
and the graph. The bytes for each channel and layer were fitted to the files of quarter-width VGG-19 and
ResNet18 (docs/export.md). For VGG-11 and ResNet34 of other widths every format's file came within 1.4 %.
Files of networks that have not trained are smaller: equal weights (biases of 0) are stored once.
"""

from dataclasses import dataclass

_BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Stored:
    """What a format stores.

    Attributes:
        dtype: str, of the kernels' entries.
        bias: int, bytes for each bias, scale or shift.
        channel: int, bytes for each channel of a kernel: its scales and zero points.
        layer: int, bytes for each layer: its operations, tensors and names.
    """

    dtype: str
    bias: int
    channel: int
    layer: int


STORED = {
    "onnx": Stored("float32", 4, 0, 580),
    "onnx_int8": Stored("int8", 4, 13, 2550),
    "tflite": Stored("float32", 4, 0, 770),
    "tflite_float16": Stored("float16", 2, 0, 1150),
    "tflite_dynamic": Stored("int8", 4, 12, 880),
    "tflite_int8": Stored("int8", 4, 24, 880),
}
# Dtypes of kernels. The formats of `adprune_keras.export` take theirs from here.
DTYPES = {name: stored.dtype for name, stored in STORED.items()}


def file_sizes(cost):
    """Predict the sizes of a network's files.

    Args:
        cost: `count.Cost` of the network.

    Returns:
        `{format of adprune-export: bytes}`.
    """
    kernels = sum(row.params for row in cost.rows)
    biases = sum(row.bias for row in cost.rows)
    channels = sum(row.width for row in cost.rows if row.params)
    return {
        name: kernels * _BYTES[s.dtype]
        + biases * s.bias
        + channels * s.channel
        + len(cost.rows) * s.layer
        for name, s in STORED.items()
    }
