"""`export_model`: convert, verify from the file, and only then give the file its name."""

import json
import pathlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from adprune_keras.export import count, runtimes, to_onnx, to_tflite
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.verify import VerificationError, verify

from adprune_keras import run
from adprune_keras.accounting import cost

_RANDOM_IMAGES = 64


@dataclass(frozen=True)
class Format:
    """How one format is written, run and counted."""

    file: str
    convert: Any
    open: Any
    count: Any


FORMATS = {
    "onnx": Format("model.onnx", to_onnx.convert, runtimes.OnnxFile, count.onnx_total),
    "tflite": Format("model.tflite", to_tflite.convert, runtimes.TfliteFile, count.tflite_total),
}


def export_model(model, directory, formats, test_data=None):
    """Export a trained model and prove each file by running it.

    A file is converted under a temporary name, opened and run in ONNX Runtime or LiteRT, and renamed
    to `model.onnx`, `model.tflite` only when every check has passed: it opens, its inputs and
    outputs have the expected names, shapes and types, its answers are finite and within 1e-5 of the
    largest logit of Keras', the MACs recounted from it equal `cost(model).deployed.macs`, and its
    accuracy is within 0.1 points of Keras'. `export.json` beside it holds the figures.

    Args:
        model: trained Functional or built Sequential `keras.Model`, float32, one input and output.
            A softmax at the end is left out of the file, which answers with logits.
        directory: str or path, made if absent.
        formats: list of `"onnx"` and `"tflite"`.
        test_data: batches of (images, labels) as a `tf.data.Dataset` or iterable, or a pair of arrays,
            scaled as in training; labels are ints. All of it is used. Without it 64 random
            images are compared and no accuracy is measured.

    Returns:
        dict `{format: {"file", "bytes", "macs", "params", "difference", "accuracy",
        "keras_accuracy", "images", "problems"}}`.

    Raises:
        ValueError: unknown format, or a model that cannot be exported; nothing is written.
        VerificationError: a check failed; the file is not there, the message lists all mismatches.

    Example:
    >>> export_model(model, "export", ["onnx", "tflite"], test_data=(x_test, y_test))
    """
    formats = list(formats)
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise ValueError(
            f"Unknown export format. Expected one or more of {list(FORMATS)}. Received: {formats}"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "The converters need Keras on TensorFlow. Received: backend "
            f"'{keras.backend.backend()}'. Save the model and run "
            "`KERAS_BACKEND=tensorflow adprune-export --model=FILE.keras`."
        )
    inference = inference_model(model)
    deployed = cost(inference).deployed
    batches = _reference(inference, test_data)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    report = {name: _export(FORMATS[name], inference, deployed, batches, directory) for name in formats}
    run.write_text(directory / "export.json", json.dumps(run.plain(report), indent=1) + "\n")
    failed = [f"{name}: {p}" for name, row in report.items() for p in row["problems"]]
    if failed:
        raise VerificationError("Verification failed: " + "; ".join(failed), report)
    return report


def _export(form, model, deployed, batches, directory):
    """Convert and verify one format; the file keeps its final name only if nothing was found."""
    path = directory / form.file
    row = {"file": form.file, "bytes": None}
    try:
        with run.atomic(path) as temporary:
            form.convert(model, temporary)
            verdict = verify(model, deployed, temporary, form.open, form.count, batches)
            row |= {**vars(verdict), "bytes": temporary.stat().st_size}
            if verdict.problems:
                raise _FailedError
    except _FailedError:
        path.unlink(missing_ok=True)  # an older file under this name is not of this model
    return row


class _FailedError(Exception):
    """Leaves the atomic block without giving the file its name."""


def _reference(model, test_data):
    """List (images, labels, Keras' logits) batch by batch."""
    if test_data is None:
        shape = (_RANDOM_IMAGES, *model.inputs[0].shape[1:])
        test_data = [(np.random.default_rng(0).standard_normal(shape).astype("float32"), None)]
    elif isinstance(test_data, tuple) and hasattr(test_data[0], "shape"):
        x, y = test_data
        test_data = [(x[i : i + 128], y[i : i + 128]) for i in range(0, len(x), 128)]
    batches = []
    for images, labels in test_data:
        images = np.asarray(images, dtype="float32")
        labels = None if labels is None else np.asarray(labels).reshape(-1)
        batches.append((images, labels, np.asarray(model.predict_on_batch(images))))
    if not batches:
        raise ValueError("`test_data` has no batch to compare. Received: an empty data set")
    return batches
