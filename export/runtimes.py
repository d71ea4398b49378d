"""The runtimes, by the names that `formats.py` calls them. A new one is a file and a line here."""

from .onnx import Onnx
from .tflite import Tflite

RUNTIMES = {
    "onnx": Onnx(),
    "tflite": Tflite(),
}
