"""The export formats: one table for the flags, the help, the checks and the report."""

from dataclasses import dataclass
from typing import Any

from adprune_keras.counting.sizes import DTYPES
from adprune_keras.text import did_you_mean


@dataclass(frozen=True)
class Format:
    """A format, and the limits that its files must keep.

    Attributes:
        file: str, name of the file.
        about: str, a description in a few words.
        runtime: str, a name in `runtimes.RUNTIMES`.
        weights: str, dtype of the stored kernels of convolutions and dense layers, from `sizes.DTYPES`.
        io: str, dtype of the output, and of the input unless it is uint8 pixels.
        calibrated: bool, whether the conversion needs calibration images.
        difference: float, largest allowed difference from Keras, relative to the largest |logit|.
        share: float, percent of the images that must keep that limit. The same percentage of the images
            whose class is clear in Keras must get that class. It is 100 unless activations become int8.
            Such activations are clipped to the range of the calibration images, or are scaled by the
            largest value of the image. The worst of many test images is then an outlier, and does not
            show whether the file is right.
        points: float, accuracy that the file may lose against Keras, in points.
    """

    file: str
    about: str
    runtime: str
    weights: str
    io: str = "float32"
    calibrated: bool = False
    difference: float = 1e-5
    share: float = 100.0
    points: float = 0.1


_HALF: dict[str, Any] = {"difference": 2e-3}
_DYNAMIC: dict[str, Any] = {"difference": 2e-2, "share": 99.0, "points": 1.0}
_INT8 = _DYNAMIC | {"calibrated": True, "difference": 5e-2}

FORMATS = {
    "onnx": Format("model.onnx", "ONNX, float32", "onnx", DTYPES["onnx"]),
    "onnx_int8": Format(
        "model_int8.onnx",
        "ONNX, int8 by static QDQ, one scale per channel",
        "onnx",
        DTYPES["onnx_int8"],
        **_INT8,
    ),
    "tflite": Format("model.tflite", "TFLite, float32", "tflite", DTYPES["tflite"]),
    "tflite_float16": Format(
        "model_float16.tflite",
        "TFLite, weights stored as float16",
        "tflite",
        DTYPES["tflite_float16"],
        **_HALF,
    ),
    "tflite_dynamic": Format(
        "model_dynamic.tflite",
        "TFLite, int8 weights, activations quantised at run time",
        "tflite",
        DTYPES["tflite_dynamic"],
        **_DYNAMIC,
    ),
    "tflite_int8": Format(
        "model_int8.tflite",
        "TFLite, int8 throughout, int8 in and out",
        "tflite",
        DTYPES["tflite_int8"],
        io="int8",
        **_INT8,
    ),
}


def resolve(formats):
    """Return the names of the requested formats, each once, with `"all"` replaced by all names.

    Args:
        formats: iterable of names in `FORMATS`, or `"all"`.

    Raises:
        ValueError: some names are unknown (the message lists all of them), or there are none.
    """
    names = [str(f) for f in formats]
    unknown = [n for n in names if n not in FORMATS and n != "all"]
    if unknown or not names:
        near = did_you_mean(unknown[0], ["all", *FORMATS]) if unknown else ""
        raise ValueError(
            f"Unknown export format. Expected one or more of {['all', *FORMATS]}. "
            f"Received: {unknown or names}.{near}"
        )
    return list(FORMATS) if "all" in names else list(dict.fromkeys(names))
