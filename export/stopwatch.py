"""Times files on one thread, in a process that holds their runtime and nothing else.

`python stopwatch.py JOB` with a JSON object `{"runtime", "files", "rounds", "seconds", "seed"}` prints
`{"milliseconds": [[...] a file], "peak_bytes", "pinned"}`.
"""

import json
import os
import pathlib
import runpy
import sys
import time

import numpy as np

_WARM_UP = 10


def main(job):
    """Run the files in turn, one image each, and print what it took."""
    # By its path: through the package, Keras would come too and be in the memory that is measured.
    runtimes = runpy.run_path(str(pathlib.Path(__file__).with_name("runtimes.py")))
    runtimes["load"](job["runtime"])
    pinned = hasattr(os, "sched_setaffinity")
    if pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    before = _peak()
    files = [runtimes["FILES"][job["runtime"]](pathlib.Path(p), threads=1) for p in job["files"]]
    images = [_image(file.inputs[0], np.random.default_rng(job["seed"])) for file in files]
    for _ in range(_WARM_UP):
        for file, image in zip(files, images, strict=True):
            file.run(image)
    times, end = [[] for _ in files], time.perf_counter() + job["seconds"]
    for _ in range(job["rounds"]):
        for file, image, taken in zip(files, images, times, strict=True):
            begin = time.perf_counter()
            file.run(image)
            taken.append(1000 * (time.perf_counter() - begin))
        if time.perf_counter() > end:
            break
    grown = None if before is None else _peak() - before
    print(json.dumps({"milliseconds": times, "peak_bytes": grown, "pinned": pinned}))


def _image(port, rng):
    shape = [n or 1 for n in port.shape]
    if port.dtype == "float32":
        return rng.standard_normal(shape).astype("float32")
    limits = np.iinfo(port.dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(port.dtype)


def _peak():
    """Largest resident memory so far; `None` where the system does not tell."""
    # Not `getrusage`: on Linux its figure starts from that of the process that started this one.
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
