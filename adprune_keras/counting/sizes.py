"""Predicted sizes of exported files, from rows of `accounting.cost`.

A file holds the deployed parameters in its format's types, what quantisation keeps for each channel,
and the graph. The bytes for each channel and layer were fitted to the files of quarter-width VGG-19 and
ResNet18 (docs/export.md). For VGG-11 and ResNet34 of other widths every format's file came within 1.4 %.
Files of networks that have not trained are smaller: equal weights (biases of 0) are stored once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bytes:
    """What a format stores, in bytes.

    Attributes:
        kernel: for each entry of a kernel.
        bias: for each bias, scale or shift.
        channel: for each channel of a kernel: its scales and zero points.
        layer: for each layer: its operations, tensors and names.
    """

    kernel: int
    bias: int
    channel: int
    layer: int


FORMATS = {
    "onnx": Bytes(4, 4, 0, 580),
    "onnx_int8": Bytes(1, 4, 13, 2550),
    "tflite": Bytes(4, 4, 0, 770),
    "tflite_float16": Bytes(2, 2, 0, 1150),
    "tflite_dynamic": Bytes(1, 4, 12, 880),
    "tflite_int8": Bytes(1, 4, 24, 880),
}
DTYPES = {
    name: {4: "float32", 2: "float16", 1: "int8"}[b.kernel] for name, b in FORMATS.items()
}  # of kernels


def file_sizes(cost):
    """Return `{format of adprune-export: bytes}` that a network's files will take, about.

    Args:
        cost: `accounting.Cost` of the network.
    """
    kernels = sum(row.params for row in cost.rows)
    biases = sum(row.bias for row in cost.rows)
    channels = sum(row.width for row in cost.rows if row.params)
    return {
        name: kernels * b.kernel + biases * b.bias + channels * b.channel + len(cost.rows) * b.layer
        for name, b in FORMATS.items()
    }
