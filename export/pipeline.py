"""Convert a model, verify each file by running it, and only then give it its final name."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from adprune_keras.export import convert
from adprune_keras.export.card import card
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.runtime import NAME
from adprune_keras.export.runtimes import RUNTIMES
from adprune_keras.export.verify import Expected, VerificationError, verify
from numpy.typing import ArrayLike

from adprune_keras._version import __version__
from adprune_keras.counting.count import cost
from adprune_keras.files.atomic import TEMPORARY, write_text
from adprune_keras.files.packages import need
from adprune_keras.text import plain

_RANDOM_IMAGES = 64
_CALIBRATION_IMAGES = 1000
_BATCH = 128


def export_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    formats: Iterable[str],
    test_data: Iterable[Any] | None = None,
    calibration_data: Iterable[Any] | None = None,
    *,
    batch_size: int | None = None,
    normalization: tuple[ArrayLike, ArrayLike] | None = None,
    accuracy_points: float | None = None,
    expected_accuracy: float | None = None,
    facts: Mapping[str, Any] | None = None,
    seed: int = 0,
    time_limit: float = convert.TIME_LIMIT,
) -> dict[str, dict[str, Any]]:
    """Export a trained model, and check each file by running it.

    Each file is converted in another process under a temporary name, and then run in ONNX Runtime or
    LiteRT. It gets its final name only if it passes every check:

    - It opens, and uses built-in operations only.
    - Its inputs, outputs, types and metadata are exactly the expected ones.
    - The MACs and weights counted from the file equal those of `cost(model).deployed`.
    - Its answers are finite, and do not depend on the batch size.
    - They differ from Keras' by at most 1e-5 of the largest logit for float32, 2e-3 for float16, and on
      99 % of the images by at most 2e-2 for dynamic range and 5e-2 for int8.
    - Its accuracy on all of `test_data` is at most `accuracy_points` below Keras'.

    `export.json` beside the files holds the figures, and `README_model.md` says how to run the files.

    Args:
        model: trained Functional or built Sequential `keras.Model` of any float policy, with one input
            and one output. Layers that only training uses and a final softmax are not exported.
        directory: str or path. It is created if it does not exist.
        formats: list of names in `formats.FORMATS`, or `["all"]`.
        test_data: batches of (images, labels) as a `tf.data.Dataset` or iterable, or a pair of arrays,
            scaled as in training; labels are ints. All batches are used. If it is `None`, 64 random
            images are compared and no accuracy is measured.
        calibration_data: training images for the int8 formats, scaled as in training: an array or an
            iterable of batches (images, or (images, labels)). 1,000 of the first 10,000 are drawn.
        batch_size: int, the fixed batch of the files, or `None` (default) for a dynamic batch.
        normalization: `None`, or (mean, std) per channel in pixel units: the files then take uint8
            pixels and normalise them themselves.
        accuracy_points: float, accuracy that a file may lose, in points. `None` (default) is the limit
            of the format: 0.1 for float, 1.0 for int8.
        expected_accuracy: float or `None`, the model's accuracy in training, in percent. Keras must
            reach it on `test_data` within half a point. Shuffled labels or another scaling show up here.
        facts: dict of plain data for the files' metadata, or `None`.
        seed: int, seed for the choice of calibration images.
        time_limit: float, seconds that the conversion to one format may take.

    Returns:
        dict `{format: {"file", "bytes", "sha256", "macs", "params", "difference", "worst",
        "agreement", "accuracy", "keras_accuracy", "images", "problems"}}`.

    Raises:
        ValueError: a format is unknown, the data are unusable, or the model cannot be exported. Nothing
            is written.
        VerificationError: a file failed a check and was not written. The message lists all mismatches.

    Example:
    >>> export_model(model, "export", ["onnx", "tflite"], test_data=(x_test, y_test))
    """
    names = resolve(formats)
    check_packages(names)
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"`batch_size` must be an int of at least 1 or None. Received: {batch_size!r}")
    model, removed = inference_model(model, normalization)
    reference = _reference(model, test_data, normalization)
    _check_accuracy(reference, expected_accuracy)
    calibration = None
    if any(FORMATS[name].calibrated for name in names):
        calibration = _calibration(calibration_data, model, normalization, seed)
    counted = cost(model)
    described = _describe(model, facts, counted.deployed, normalization)
    pixels = normalization is not None
    expected = expectation(model, counted, reference, described, batch_size, pixels, accuracy_points)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=directory) as folder:
        settings = (batch_size, pixels, calibration, described, time_limit)
        errors = convert.convert(model, names, folder, *settings)
        report = {}
        for name in names:
            made = pathlib.Path(folder) / FORMATS[name].file
            report[name] = _take(made, FORMATS[name], expected, errors.get(name), directory)
    text = json.dumps(plain(report), indent=1) + "\n"
    write_text(directory / "export.json", text)
    write_text(directory / "README_model.md", card(model, report, expected, removed))
    failed = [f"{name}: {p}" for name, row in report.items() for p in row["problems"]]
    if failed:
        raise VerificationError("Verification failed: " + "; ".join(failed), report)
    return report


def check_packages(names):
    """Raise `ImportError` where a package is missing that some formats need."""
    runtimes = dict.fromkeys(FORMATS[name].runtime for name in names)
    need("An export", *dict.fromkeys(m for runtime in runtimes for m in RUNTIMES[runtime].needs))


def expectation(model, counted, reference, described, batch_size=None, pixels=False, points=None):
    """Return what every file of an inference graph must be, as a `verify.Expected`."""
    kernels = [row for row in counted.rows if row.macs]
    return Expected(
        shape=tuple(model.inputs[0].shape[1:]),
        classes=model.outputs[0].shape[-1],
        batch_size=batch_size,
        pixels=pixels,
        macs=counted.deployed.macs,
        kernels=[row.params for row in kernels if row.params],
        biases=sum(row.bias for row in kernels),
        batches=reference,
        metadata=described,
        points=points,
    )


def _take(made, form, expected, error, directory):
    """Verify one file; give it its final name only if there is no problem."""
    path = directory / form.file
    row = {"file": form.file, "bytes": None, "sha256": None}
    if error:
        row |= {"problems": [error], "images": 0}
    else:
        content = made.read_bytes()
        row |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        row |= vars(verify(made, form, expected))
    if row["problems"]:
        path.unlink(missing_ok=True)  # an older file of this name is of another model
        return row
    with open(made, "rb") as file:
        os.fsync(file.fileno())
    os.replace(made, path)
    return row


def _describe(model, facts, deployed, normalization):
    """Return a file's metadata as `{key: text}`.

    There is no date in it, so that the same network gives the same bytes.
    """
    known = {"package": f"{NAME} {__version__}", "model": model.name} | dict(facts or {})
    if normalization is not None:
        known["normalization"] = [[float(v) for v in values] for values in normalization]
    known["deployed"] = vars(deployed)
    known = {key: value for key, value in plain(known).items() if value is not None}
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in known.items()}


def _pixels(images, normalization):
    """Return images as the files take them: unchanged, or turned back into pixels."""
    if normalization is None:
        return np.asarray(images, "float32")
    mean, std = (np.asarray(v, "float32") for v in normalization)
    return np.clip(np.round(np.asarray(images) * std + mean), 0, 255).astype("uint8")


def _batches(data):
    """Yield (images, labels or `None`) from arrays, a pair of arrays, or an iterable of batches."""
    if hasattr(data, "shape"):
        data = (data, None)
    if isinstance(data, tuple) and hasattr(data[0], "shape"):
        x, y = data
        for i in range(0, len(x), _BATCH):
            yield x[i : i + _BATCH], None if y is None else y[i : i + _BATCH]
        return
    for batch in data:
        yield batch if isinstance(batch, tuple) else (batch, None)


def _reference(model, test_data, normalization):
    """List (images as the file takes them, labels, Keras' logits) batch by batch."""
    shape = tuple(model.inputs[0].shape[1:])
    if test_data is None:
        rng = np.random.default_rng(0)
        test_data = rng.standard_normal((_RANDOM_IMAGES, *shape)).astype("float32")
        if normalization is not None:  # random pixels
            mean, std = (np.asarray(v, "float32") for v in normalization)
            test_data = (rng.integers(0, 256, test_data.shape) - mean) / std
    reference = []
    for images, labels in _batches(test_data):
        images = _pixels(images, normalization)
        if images.shape[1:] != shape:
            raise ValueError(
                f"The images of `test_data` do not fit the model. Received: shape {images.shape[1:]}, "
                f"expected {shape}"
            )
        labels = None if labels is None else np.asarray(labels).reshape(-1)
        logits = np.asarray(model.predict_on_batch(images.astype("float32")))
        reference.append((images, labels, logits))
    if not reference:
        raise ValueError("`test_data` has no batch to compare. Received: an empty data set")
    return reference


def _check_accuracy(reference, expected):
    """Raise `ValueError` if Keras does not reach its accuracy of training on the test data."""
    if expected is None or any(labels is None for _, labels, _ in reference):
        return
    right = [np.argmax(logits, -1) == labels for _, labels, logits in reference]
    found = 100 * float(np.mean(np.concatenate(right)))
    if not abs(found - expected) <= 0.5:
        raise ValueError(
            f"The Keras model reaches {found:.2f} % on `test_data`, but {expected:.2f} % in its "
            "training. The images, the labels or the scaling are different. Nothing was exported."
        )


def _calibration(data, model, normalization, seed):
    """Draw calibration images, and scale them as the graph takes them."""
    shape = tuple(model.inputs[0].shape[1:])
    if data is None:
        raise ValueError(
            "The int8 formats need `calibration_data`: training images, scaled as in training. "
            "Received: None"
        )
    images = []
    for x, _ in _batches(data):
        images.extend(np.asarray(x))
        if len(images) >= 10 * _CALIBRATION_IMAGES:
            break
    x = np.asarray(images)
    if x.shape[1:] != shape or not len(x) or x.dtype.kind not in "fiu":
        raise ValueError(
            f"`calibration_data` must hold images of shape {shape}. "
            f"Received: {len(x)} of shape {x.shape[1:]} and dtype {x.dtype}"
        )
    if not np.all(np.isfinite(x)):
        raise ValueError("`calibration_data` must be finite. Received: images with NaN or inf")
    chosen = np.random.default_rng(seed).permutation(len(x))[:_CALIBRATION_IMAGES]
    x = _pixels(x[np.sort(chosen)], normalization).astype("float32")
    if normalization is None:
        return x
    ends = np.stack([np.full(shape, v, "float32") for v in (0, 255)])  # then an input byte is the pixel
    return np.concatenate([x, ends])
