"""Convert in another process, so that a converter that crashes or hangs gives one clear error.

The parent saves the inference graph, the calibration images and a description of the jobs. The child
(`python -m adprune_keras.export.convert FOLDER`) loads them on TensorFlow. For each format it writes a
file and a line of results. If the child dies, the format that it was working on has failed, and a new
child converts the rest.
"""

import json
import pathlib
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
from adprune_keras.export import child
from adprune_keras.export.formats import FORMATS, Format
from adprune_keras.export.runtimes import RUNTIMES

TIME_LIMIT = 900  # seconds for each format


@dataclass(frozen=True)
class Job:
    """What a converter has to know about one conversion.

    Attributes:
        form: `Format`.
        batch_size: int, or `None` for a dynamic batch.
        pixels: whether the file takes uint8 pixels.
        calibration: array (N, H, W, C), scaled as the graph takes it, or `None`.
        metadata: `{key: text}`.
    """

    form: Format
    batch_size: int | None
    pixels: bool
    calibration: object
    metadata: dict


def convert(model, formats, folder, batch_size, pixels, calibration, metadata, time_limit=TIME_LIMIT):
    """Convert an inference graph to several formats.

    Args:
        model: `keras.Model` from `prepare.inference_model`, on any backend.
        formats: names in `FORMATS`.
        folder: an empty directory. The files are written there under their final names.
        batch_size: int or `None`.
        pixels: bool.
        calibration: array (N, H, W, C) or `None`.
        metadata: `{key: text}`.
        time_limit: float, seconds that one format may take.

    Returns:
        `{format: reason}`, the formats that failed.
    """
    folder = pathlib.Path(folder).absolute()
    model.save(folder / "inference.keras")
    if calibration is not None:
        np.save(folder / "calibration.npy", calibration)
    errors, left = {}, list(formats)
    while left:
        settings = {"formats": left, "batch_size": batch_size, "pixels": pixels, "metadata": metadata}
        (folder / "jobs.json").write_text(json.dumps(settings))
        results = folder / "results.jsonl"
        results.write_text("")
        ended = in_child(folder, time_limit * len(left))
        done = dict(json.loads(line) for line in results.read_text().splitlines())
        errors |= {name: reason for name, reason in done.items() if reason}
        left = [name for name in left if name not in done]
        if left:
            errors[left.pop(0)] = ended
    return errors


def in_child(folder, limit):
    """Call `carry_out` in a process of its own; return how that process ended, in words."""
    # The hash seed is fixed because the order of sets shows in the bytes that tf2onnx writes.
    environment = {"KERAS_BACKEND": "tensorflow", "PYTHONHASHSEED": "0"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    arguments = ["-m", "adprune_keras.export.convert", str(folder)]
    with open(folder / "log.txt", "a+") as log:
        try:
            code = child.run(arguments, folder, limit, environment, stdout=log, stderr=log).returncode
        except subprocess.TimeoutExpired:
            return f"the converter did not end within {limit:.0f} s"
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    if code < 0:
        return f"the converter died of signal {signal.Signals(-code).name}"
    return f"the converter ended with exit status {code}: {said[-1] if said else 'it said nothing'}"


def carry_out(folder):
    """Convert what `jobs.json` in a folder asks for. This is the child's side."""
    import keras

    folder = pathlib.Path(folder)
    settings = json.loads((folder / "jobs.json").read_text())
    model = keras.models.load_model(folder / "inference.keras")
    saved = folder / "calibration.npy"
    calibration = np.load(saved, allow_pickle=False) if saved.exists() else None
    for name in settings["formats"]:
        form = FORMATS[name]
        job = Job(form, settings["batch_size"], settings["pixels"], calibration, settings["metadata"])
        try:
            RUNTIMES[form.runtime].convert(model, folder / form.file, job)
            reason = None
        except Exception as e:  # a converter may raise anything; it becomes the reason
            first = (str(e).strip() or "no message").splitlines()[0]
            reason = f"the converter failed: {type(e).__name__}: {first}"
        with open(folder / "results.jsonl", "a") as results:
            results.write(json.dumps([name, reason]) + "\n")


if __name__ == "__main__":
    carry_out(sys.argv[1])
