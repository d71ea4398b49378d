"""The formats that a network ships in: one table for the flags, the help, the checks and the report."""

from dataclasses import dataclass
from typing import Any

from adprune_keras.counting.sizes import DTYPES
from adprune_keras.text import did_you_mean


@dataclass(frozen=True)
class Format:
    """One format and what a file of it must keep to.

    Attributes:
        file: its final name.
        about: what it is, in a few words.
        runtime: `"onnx"` (ONNX Runtime) or `"tflite"` (LiteRT).
        weights: dtype that its convolutions' and dense layers' weights are stored in.
        io: dtype of its input and output, where the input is no pixels.
        calibrated: whether making it needs calibration images.
        difference: largest difference from Keras that it may show, relative to the largest |logit|.
        share: of the images, in percent, that must keep to that, and of those that Keras is sure of
            that must get Keras' class. All, but where activations become
            int8: they are clipped beyond all calibration images, or share the scale of the image's
            largest, so the worst of many test images says how far out that image lies, not whether
            the file is right.
        points: accuracy that it may lose against Keras, in points.
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
        "ONNX, int8 by static QDQ, one scale a channel",
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
        "TFLite, int8 weights, activations quantised as it runs",
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
    """Return the names of the formats that are asked for, `"all"` spelt out, each once.

    Raises:
        ValueError: unknown names, all of them at once, or none.
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
