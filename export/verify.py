"""Compare an exported file with the Keras model, and collect every mismatch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from adprune_keras.export.runtime import INPUT, OUTPUT, Port
from adprune_keras.export.runtimes import RUNTIMES

_SMALL_KERNEL = 1024  # TFLite leaves smaller ones in float32 where only the weights are quantised


class VerificationError(RuntimeError):
    """A file failed its checks; `report` holds the results of each format."""

    def __init__(self, message: str, report: dict[str, dict[str, Any]]) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Expected:
    """What every file of one model must be, in any format.

    Attributes:
        shape: (H, W, C) of an image.
        classes: int, logits per image.
        batch_size: int, or `None` for a dynamic batch.
        pixels: whether the input is uint8 pixels.
        macs: int, deployed count.
        kernels: list of ints, the elements of each layer's kernel in the deployed count.
        biases: int, the most elements that the biases may have. A file may omit biases of zeros.
        batches: list of (images as the file takes them, int labels or `None`, Keras' logits).
        metadata: `{key: text}`.
        points: float, accuracy that a file may lose, or `None` for the limit of the format.
    """

    shape: tuple
    classes: int
    batch_size: int | None
    pixels: bool
    macs: int
    kernels: list
    biases: int
    batches: list
    metadata: dict
    points: float | None = None


@dataclass
class Verdict:
    """What was measured on one file.

    Attributes:
        problems: list of str, empty if all checks passed.
        macs: int, counted from the file, for one image.
        params: int, counted from the file: kernels and biases. Zero biases that it omits are included.
        difference: float, largest difference from Keras over the largest |logit|, on the share of
            the images for which the format has a limit.
        worst: float, the same on all images.
        agreement: float, percent of the images that the file puts into Keras' class.
        accuracy: float, accuracy of the file in percent, or `None` without labels.
        keras_accuracy: float, accuracy of the Keras model on the same images, or `None`.
        images: int, images that both have answered.
    """

    problems: list = field(default_factory=list)
    macs: int | None = None
    params: int | None = None
    difference: float | None = None
    worst: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    keras_accuracy: float | None = None
    images: int = 0


def verify(path, form, expected):
    """Check one exported file by opening, counting and running it.

    Args:
        path: the file.
        form: its `Format`.
        expected: `Expected`.

    Returns:
        A `Verdict`.
    """
    verdict, runtime = Verdict(), RUNTIMES[form.runtime]
    try:
        foreign = runtime.foreign(path)
        file = runtime.open(path)
        counted = runtime.count(path)
        facts = runtime.metadata(path)
    except Exception as e:  # a runtime may raise anything on a bad file; it becomes the problem
        verdict.problems.append(f"the file does not open: {type(e).__name__}: {_first_line(e)}")
        return verdict
    if foreign:
        verdict.problems.append(f"it needs operations beyond the built-in ones: {foreign}")
    _check_count(verdict, counted, form, expected)
    wrong = {k: facts.get(k) for k, v in expected.metadata.items() if facts.get(k) != v}
    if wrong:
        verdict.problems.append(f"its metadata are wrong or missing: {wrong}")
    if _check_ports(verdict, file, form, expected):
        _run(verdict, file, form, expected)
    return verdict


def _check_count(verdict, counted, form, expected):
    kernels = sum(expected.kernels)
    verdict.macs, verdict.params = counted.macs, counted.weights + expected.biases
    right = (counted.macs, counted.weights) == (expected.macs, kernels)
    if not right or counted.biases > expected.biases:
        verdict.params = counted.weights + counted.biases
        verdict.problems.append(
            f"it computes {counted.macs:,} MACs with {counted.weights:,} weights and {counted.biases:,} "
            f"biases, expected {expected.macs:,} with {kernels:,} and {expected.biases:,}"
        )
    small = 0 if form.calibrated else sum(n for n in expected.kernels if n < _SMALL_KERNEL)
    other = sum(n for dtype, n in counted.dtypes.items() if dtype != form.weights)
    if other > (small if form.weights == "int8" else 0):
        verdict.problems.append(f"its weights are stored as {counted.dtypes}, expected {form.weights}")


def _check_ports(verdict, file, form, expected):
    """Compare inputs and outputs; return whether the file can be run even so."""
    n, io = expected.batch_size, form.io
    into = [Port(INPUT, (n, *expected.shape), "uint8" if expected.pixels else io)]
    out = [Port(OUTPUT, (n, expected.classes), io)]
    for what, found, wanted in (("inputs", file.inputs, into), ("outputs", file.outputs, out)):
        if found != wanted:
            verdict.problems.append(f"its {what} are {found}, expected {wanted}")
    return len(file.inputs) == 1 and file.inputs[0].shape[1:] == expected.shape


def _run(verdict, file, form, expected):
    answers = []
    for images, _, _ in expected.batches:
        if file.inputs[0].shape[0] is None:
            answers.append(file.run(images))
        else:
            n = file.inputs[0].shape[0]
            answers += [file.run(images[i : i + n]) for i in range(0, len(images), n)]
    ours = np.concatenate(answers)
    logits = np.concatenate([keras for _, _, keras in expected.batches])
    verdict.images = len(logits)
    if ours.shape != logits.shape:
        verdict.problems.append(f"it answers with shape {ours.shape}, Keras {logits.shape}")
        return
    if not np.all(np.isfinite(ours)):  # then no other figure has a meaning
        verdict.problems.append("its answers are not all finite")
        return
    scale = float(np.max(np.abs(logits))) or 1.0
    _check_difference(verdict, ours, logits, scale, form)
    if file.inputs[0].shape[0] is None:  # run the same images in another batch size
        first = expected.batches[0][0][:8]
        one_by_one = np.concatenate([file.run(first[i : i + 1]) for i in range(len(first))])
        drift = float(np.max(np.abs(one_by_one - ours[: len(first)]))) / scale
        if not drift <= form.difference:
            verdict.problems.append(f"its answers change with the batch size, by {drift:.1e}")
    _check_accuracy(verdict, ours, logits, form, expected)


def _check_difference(verdict, ours, logits, scale, form):
    apart = np.max(np.abs(ours - logits), axis=tuple(range(1, ours.ndim))) / scale
    verdict.worst = float(np.max(apart))
    verdict.difference = float(np.percentile(apart, form.share, method="higher"))
    if not verdict.difference <= form.difference:
        verdict.problems.append(
            f"it differs from Keras by {verdict.difference:.1e} of the largest logit, "
            f"allowed {form.difference:.0e}"
        )
    same = np.argmax(ours, -1) == np.argmax(logits, -1)
    verdict.agreement = 100 * float(np.mean(same))
    lead = np.sum(np.diff(np.sort(logits, -1)[..., -2:]), -1)  # 0 if there is only one class
    sure = lead > 2 * form.difference * scale  # both logits may move by the difference
    kept = 100 * float(np.mean(same[sure])) if np.any(sure) else 100.0
    if not kept >= form.share:
        verdict.problems.append(
            f"it puts {kept:.2f} % of the {np.sum(sure):,} images whose class leads by more than twice "
            f"that difference into Keras' class, expected at least {form.share:g} %"
        )


def _check_accuracy(verdict, ours, logits, form, expected):
    if any(labels is None for _, labels, _ in expected.batches):
        return
    labels = np.concatenate([labels for _, labels, _ in expected.batches])
    verdict.accuracy = 100 * float(np.mean(np.argmax(ours, -1) == labels))
    verdict.keras_accuracy = 100 * float(np.mean(np.argmax(logits, -1) == labels))
    points = form.points if expected.points is None else expected.points
    if not verdict.keras_accuracy - verdict.accuracy <= points:
        verdict.problems.append(
            f"its accuracy is {verdict.accuracy:.2f} %, Keras' {verdict.keras_accuracy:.2f} % "
            f"(allowed: {points} points less)"
        )


def _first_line(error):
    return (str(error).strip() or "no message").splitlines()[0]
