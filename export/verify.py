"""Runs an exported file against the Keras model and collects every mismatch."""

from dataclasses import dataclass, field

import numpy as np
from adprune_keras.export.prepare import names
from adprune_keras.export.runtimes import Port

# Largest difference from Keras relative to the largest |logit|, and accuracy lost in points.
TOLERANCE = 1e-5
ACCURACY_POINTS = 0.1


class VerificationError(RuntimeError):
    """A file failed its checks; `report` holds what was found, format by format."""

    def __init__(self, message, report):
        super().__init__(message)
        self.report = report


@dataclass
class Verdict:
    """What was measured on one file.

    Attributes:
        problems: list of str, empty where all checks passed.
        macs: int, counted from the file, one image.
        params: int, likewise.
        difference: float, largest difference from Keras over the largest |logit|.
        accuracy: float in percent through the file's runtime, or `None` without labels.
        keras_accuracy: float in percent of the Keras model on the same images, or `None`.
        images: int, images that went through both.
    """

    problems: list = field(default_factory=list)
    macs: int | None = None
    params: int | None = None
    difference: float | None = None
    accuracy: float | None = None
    keras_accuracy: float | None = None
    images: int = 0


def verify(model, deployed, path, open_file, count, batches):
    """Check one exported file by running it.

    Args:
        model: the inference `keras.Model` that it was made from.
        deployed: `Total` that the file must hold.
        path: the file.
        open_file: class from `runtimes` that runs it.
        count: function from `count` that recounts it.
        batches: list of (images (N, H, W, C) float32, int labels (N,) or `None`, Keras' logits).

    Returns:
        A `Verdict`.
    """
    verdict = Verdict()
    try:
        file = open_file(path)
        total = count(path)
    except Exception as e:  # whatever a runtime raises on a bad file is the finding
        verdict.problems.append(f"the file does not open: {type(e).__name__}: {_first_line(e)}")
        return verdict
    verdict.macs, verdict.params = total.macs, total.params
    if total.macs != deployed.macs:
        verdict.problems.append(f"it computes {total.macs:,} MACs, expected {deployed.macs:,}")
    name, output = names(model)
    expected = (
        [Port(name, tuple(model.inputs[0].shape), "float32")],
        [Port(output, tuple(model.outputs[0].shape), "float32")],
    )
    for what, found, wanted in zip(
        ("inputs", "outputs"), (file.inputs, file.outputs), expected, strict=True
    ):
        if found != wanted:
            verdict.problems.append(f"its {what} are {found}, expected {wanted}")
    if verdict.problems:
        return verdict
    answers = [file.run(images) for images, _, _ in batches]
    _compare(verdict, answers, batches)
    return verdict


def _compare(verdict, answers, batches):
    ours = np.concatenate(answers)
    keras_logits = np.concatenate([logits for _, _, logits in batches])
    verdict.images = len(ours)
    if ours.shape != keras_logits.shape:
        verdict.problems.append(f"it answers with shape {ours.shape}, Keras {keras_logits.shape}")
        return
    if not np.all(np.isfinite(ours)):
        verdict.problems.append("its answers are not all finite")
    scale = float(np.max(np.abs(keras_logits))) or 1.0
    verdict.difference = float(np.max(np.abs(ours - keras_logits))) / scale
    if not verdict.difference <= TOLERANCE:  # NaN is not within any tolerance
        verdict.problems.append(
            f"it differs from Keras by {verdict.difference:.1e} of the largest logit, "
            f"allowed {TOLERANCE:.0e}"
        )
    if any(labels is None for _, labels, _ in batches):
        return
    labels = np.concatenate([labels for _, labels, _ in batches])
    verdict.accuracy = 100 * float(np.mean(np.argmax(ours, -1) == labels))
    verdict.keras_accuracy = 100 * float(np.mean(np.argmax(keras_logits, -1) == labels))
    if not abs(verdict.accuracy - verdict.keras_accuracy) <= ACCURACY_POINTS:
        verdict.problems.append(
            f"its accuracy is {verdict.accuracy:.2f} %, Keras' {verdict.keras_accuracy:.2f} % "
            f"(allowed: {ACCURACY_POINTS} points)"
        )


def _first_line(error):
    return (str(error).strip() or "no message").splitlines()[0]
