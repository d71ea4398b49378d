"""Time files on one thread, in a process that holds their runtime and nothing else.

`python stopwatch.py JOB` takes a JSON object `{"runtime", "files", "rounds", "seconds", "seed"}` and
prints `{"milliseconds": [a list for each file], "peak_bytes", "pinned"}`.
"""

import contextlib
import importlib
import json
import os
import pathlib
import sys
import time
import types

import numpy as np

_WARM_UP = 10


def main(job):
    """Run the files in turn, in the batch size that they are made for; print milliseconds per image."""
    runtime = runtimes()[job["runtime"]]
    runtime.load()
    rng, pinned = np.random.default_rng(job["seed"]), _pin()
    before = _forget_peak()
    files = [runtime.open(pathlib.Path(path), threads=1) for path in job["files"]]
    ports = {(port.shape, port.dtype) for file in files for port in file.inputs}
    if len(ports) != 1:
        raise ValueError(f"the files do not take the same images: {ports}")
    images = _images(files[0].inputs[0], rng)
    runs = [file.ready(images) for file in files]
    for run in _WARM_UP * runs:
        run()
    times, end = [[] for _ in files], time.perf_counter() + job["seconds"]
    for _ in range(job["rounds"]):
        for i in rng.permutation(len(files)):
            runs[i]()  # not timed: the caches hold the data of another file
            begin = time.perf_counter()
            runs[i]()
            times[i].append(1000 * (time.perf_counter() - begin) / len(images))
        if time.perf_counter() > end:
            break
    grown = None if before is None else _memory("VmHWM") - before
    print(json.dumps({"milliseconds": times, "peak_bytes": grown, "pinned": pinned}))


def runtimes():
    """Return the runtimes, imported from the folder of this file and not through the package.

    The package may import Keras, whose memory would be part of what is measured.
    """
    folder = types.ModuleType("export")
    folder.__path__ = [str(pathlib.Path(__file__).parent)]
    sys.modules["export"] = folder
    return importlib.import_module("export.runtimes").RUNTIMES


def _images(port, rng):
    shape = [n or 1 for n in port.shape]
    if port.dtype == "float32":
        return rng.standard_normal(shape).astype("float32")
    limits = np.iinfo(port.dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(port.dtype)


def _pin():
    """Pin this process to one core; return whether the system allows it."""
    try:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    except (AttributeError, OSError):
        return False
    return True


def _forget_peak():
    """Restart the record of the peak memory; return the memory in use, or `None` if unknown."""
    # `getrusage` will not do: on Linux its peak includes that of the parent process.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmHWM")


def _memory(name):
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
