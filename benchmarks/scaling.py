"""One process against two on one machine: seconds of an epoch, and that both prune alike.

    KERAS_BACKEND=jax python benchmarks/scaling.py [--output=scaling.json]

Runs `adprune-train --distribution=data_parallel` on the digits at 32 pixels with one thread a process,
first as one process, then as two on loopback. The first epoch of each net compiles and is left out.
"""

import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags

from adprune_keras import run, tables

FLAGS = flags.FLAGS
COMMAND = (
    *(
        "-m",
        "adprune_keras.train",
        "--distribution=data_parallel",
        "--dataset=digits",
        "--image_size=32",
    ),
    *("--network=VGG11", "--width_scale=0.25", "--epochs=8", "--prune_at=4", "--progress=2"),
)
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("output", None, "A JSON file for the figures.")


def train(folder, many):
    """Train as so many processes; return the chief's record and its seconds of each epoch."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": ONE_THREAD,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    started = []
    for process in range(many):
        own = environment | {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(many),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
        }
        command = [sys.executable, *COMMAND, f"--run_dir={folder}"]
        started.append(subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{many} processes failed.")
    lines = [line for line in outputs[0].splitlines() if " - " in line and "s/step" in line]
    return run.read_run(folder), [float(line.split("s - ")[0].split(" - ")[-1]) for line in lines]


def main(_):
    """Print the table."""
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for many in (1, 2):
            record, seconds = train(pathlib.Path(folder) / str(many), many)
            nets = [seconds[net["start"] : net["start"] + net["epochs"]][1:] for net in record.nets]
            times = [statistics.median(net) for net in nets]
            accuracy = record.result["val_accuracy"]
            found[many] = {"seconds": times, "widths": [net["widths"] for net in record.nets]}
            rows.append((many, *(f"{t:.1f} s" for t in times), f"{100 * accuracy:.2f} %"))
    header = ("processes", "epoch of net0", "epoch of net1", "test accuracy")
    print("\n".join(tables.markdown(header, rows)))
    same = found[1]["widths"] == found[2]["widths"]
    print(f"Widths after the prune: {'the same' if same else 'not the same'}.")
    if FLAGS.output:
        run.write_text(FLAGS.output, json.dumps(found))


if __name__ == "__main__":
    define_flags()
    app.run(main)
