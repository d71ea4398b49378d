"""Time exported files beside those of the network before pruning."""

import importlib.metadata
import json
import pathlib
import platform
import subprocess
import tempfile
from math import lcm

import numpy as np
from adprune_keras.export import child, convert
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.runtimes import RUNTIMES

from adprune_keras.counting.count import cost
from adprune_keras.counting.counts import COUNTS
from adprune_keras.counting.reductions import ops_reduction, params_reduction
from adprune_keras.graph.groups import find_groups, layer_widths
from adprune_keras.graph.rebuild import resize
from adprune_keras.prune.widths import nearest
from adprune_keras.report.table import both, markdown_table

BEFORE, PRUNED, ROUNDED = "before", "pruned", "round_to=8"
_STEP = 8  # SIMD units process 8 channels at once
_WORTH_IT = 1.05  # ratio of times from which rounding is advised
_CALIBRATION_IMAGES = 32


def compare(
    model,
    baseline,
    directory,
    formats,
    *,
    batch_size=None,
    normalization=None,
    rounds=200,
    seconds=20.0,
    seed=0,
    time_limit=convert.TIME_LIMIT,
):
    """Time exported files beside the same formats of the network that the model was pruned from.

    The files run on one thread, pinned to one core if the system allows it. After 10 runs to warm up,
    each round times every file once, in a random order, so that a slow moment of the machine affects all
    files alike. A third network is timed too: its widths are the pruned ones, rounded to the nearest
    multiples of 8. It has new weights, which do not change the times. The results are for information
    only.

    Args:
        model: the pruned `keras.Model`.
        baseline: `keras.Model`, the network before pruning, with the same layer names. Its weights do
            not matter.
        directory: path, where `export_model` put the model's files.
        formats: names in `formats.FORMATS`, or `["all"]`. Formats without a file are skipped.
        batch_size: int or `None`, the value that `export_model` was given.
        normalization: `None` or (mean, std), the value that `export_model` was given.
        rounds: int, timed runs of each file. A run takes one image, or the fixed batch of the file.
        seconds: float, time after which a format ends with fewer rounds.
        seed: int, seed of the images and of the new weights.
        time_limit: float, seconds that the conversion to one format may take.

    Returns:
        dict of `"cpu"`, `"versions"`, `"pinned"`, `"nets"` (`{net: {"macs", "params"}}`),
        `"ops_reduction"`, `"params_reduction"` (`{"paper", "deployed"}`), and `"formats"`: `{format:
        {net: {"bytes", "p50", "p90", "peak_bytes", "times_as_fast"}}}`. Times are milliseconds per
        image. `times_as_fast` is the time of `before` over that of the net, the median of all rounds.
        `round_to=8` also has a `"gain"`: the time of `pruned` over its own, the median of all rounds.

    Raises:
        ValueError: there is no file to time, or the model was not pruned from the baseline.
        RuntimeError: a network to compare with was not converted, or a file did not run.
    """
    directory = pathlib.Path(directory).absolute()
    names = [name for name in resolve(formats) if (directory / FORMATS[name].file).is_file()]
    if not names:
        raise ValueError(f"No exported file to time. Received: {directory}, formats {list(formats)}")
    nets = {BEFORE: baseline, PRUNED: model} | _rounded(model, baseline, seed)
    with tempfile.TemporaryDirectory() as folder:
        places = {PRUNED: directory}
        for who in nets.keys() - {PRUNED}:
            places[who] = pathlib.Path(folder) / who
            places[who].mkdir()
            _convert(nets[who], names, places[who], batch_size, normalization, seed, time_limit)
        timed = {}
        for name in names:
            files = {who: places[who] / FORMATS[name].file for who in nets}
            timed[name] = _time(files, FORMATS[name].runtime, rounds, seconds, seed)
    costs = {who: cost(net) for who, net in nets.items()}
    packages = {RUNTIMES[FORMATS[name].runtime].package for name in names}
    return {
        "cpu": _cpu(),
        "versions": {package: importlib.metadata.version(package) for package in sorted(packages)},
        "pinned": all(pinned for _, pinned in timed.values()),
        "nets": {who: vars(c.deployed) for who, c in costs.items()},
        "ops_reduction": {k: ops_reduction(costs[BEFORE], costs[PRUNED], k) for k in COUNTS},
        "params_reduction": {k: params_reduction(costs[BEFORE], costs[PRUNED], k) for k in COUNTS},
        "formats": {name: rows for name, (rows, _) in timed.items()},
    }


def summary(found):
    """Render the result of `compare` as Markdown: a table, and advice if rounding would pay."""
    body = [
        (
            name,
            who,
            f"{found['nets'][who]['macs']:,}",
            f"{row['bytes']:,}",
            f"{row['p50']:.3f}",
            f"{row['p90']:.3f}",
            "n/a" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.1f}",
            f"{row['times_as_fast']:.2f}x",
        )
        for name, rows in found["formats"].items()
        for who, row in rows.items()
    ]
    header = ("format", "net", "MACs", "bytes", "p50 ms", "p90 ms", "peak MiB", "times as fast")
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    lines = [
        *markdown_table(header, body),
        "",
        f"OPS reduction {both(found['ops_reduction'])}, parameters reduction "
        f"{both(found['params_reduction'])} (paper count / deployed count).",
        f"Milliseconds per image, one thread{', pinned to a core' if found['pinned'] else ''}, files in "
        f"turn; {found['cpu']}; {versions}. Peak: memory that loading and running a file adds to the "
        "runtime.",
    ]
    better = []
    if ROUNDED in found["nets"]:
        fewer = found["nets"][PRUNED]["macs"] / found["nets"][ROUNDED]["macs"]  # expected from MACs
        gains = {name: rows[ROUNDED]["gain"] for name, rows in found["formats"].items()}
        better = [
            f"{name} {gain:.2f}x" for name, gain in gains.items() if gain >= _WORTH_IT * max(fewer, 1)
        ]
    if better:
        lines += [
            "",
            f"With widths in multiples of {_STEP}, these formats run faster on this machine than the "
            f"exported files: {', '.join(better)}. Train with `round_to={_STEP}`.",
        ]
    return "\n".join(lines)


def _rounded(model, baseline, seed):
    """Return the baseline at the model's widths, with the pruned ones rounded.

    The result is `{ROUNDED: keras.Model}`, or `{}` if all widths are round already.
    """
    pruned, widths = layer_widths(model), {}
    groups = find_groups(baseline).prunable()
    strange = [g.owner for g in groups if not pruned.get(g.owner, g.width + 1) <= g.width]
    if strange:
        raise ValueError(
            "The baseline is not the network that the model was pruned from: these layers are not in "
            f"the model, or are wider there. Received: {strange}"
        )
    for group in groups:
        width, step = pruned[group.owner], lcm(_STEP, group.parts)
        if width < group.width:
            width = min(group.width, max(step, nearest(width, step)))
        widths[group.owner] = width
    if all(pruned[name] == width for name, width in widths.items()):
        return {}
    return {ROUNDED: resize(baseline, widths, seed=seed)}


def _convert(net, names, folder, batch_size, normalization, seed, time_limit):
    graph, _ = inference_model(net, normalization)
    images = (_CALIBRATION_IMAGES, *graph.inputs[0].shape[1:])
    rng = np.random.default_rng(seed)
    pixels = normalization is not None
    x = rng.integers(0, 256, images) if pixels else rng.standard_normal(images)
    settings = (batch_size, pixels, x.astype("float32"), {}, time_limit)
    errors = convert.convert(graph, names, folder, *settings)
    if errors:
        raise RuntimeError(f"A network to compare with could not be converted: {errors}")


def _time(files, runtime, rounds, seconds, seed):
    """Return `{net: row}` and whether the process was pinned."""
    job = {"runtime": runtime, "rounds": rounds, "seconds": seconds, "seed": seed}
    together = _stopwatch(job | {"files": [str(path) for path in files.values()]})
    times = dict(zip(files, map(np.array, together["milliseconds"]), strict=True))
    rows = {}
    for who, path in files.items():
        alone = _stopwatch(job | {"files": [str(path)], "rounds": 10})
        rows[who] = {
            "bytes": path.stat().st_size,
            "p50": float(np.percentile(times[who], 50)),
            "p90": float(np.percentile(times[who], 90)),
            "peak_bytes": alone["peak_bytes"],
            "times_as_fast": float(np.median(times[BEFORE] / times[who])),
        }
    if ROUNDED in rows:
        rows[ROUNDED]["gain"] = float(np.median(times[PRUNED] / times[ROUNDED]))
    return rows, together["pinned"]


def _stopwatch(job):
    script = pathlib.Path(__file__).with_name("stopwatch.py")
    limit = 60 + 4 * job["seconds"]  # enough to load a runtime and warm up on a busy machine
    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [str(script.absolute()), json.dumps(job)]
            done = child.run(arguments, folder, limit, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"Timing did not end within {limit:.0f} s: {job['files']}") from None
    if done.returncode:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise RuntimeError(
            f"Timing ended with exit status {done.returncode}: {said}. Received: {job['files']}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
