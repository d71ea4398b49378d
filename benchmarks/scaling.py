"""One process against two on one machine: seconds of an epoch, and that both prune alike.

    python benchmarks/scaling.py [--width_scale=1] [--output=scaling.json]

A VGG-11 (a quarter of its width by default) on the digits at 32 pixels under
`keras.distribution.DataParallel` on JAX, with one thread a process, first as one process, then as two on
loopback; batch 128 in all. The first epoch of each net compiles and is left out.
"""

import json
import os
import socket
import statistics
import subprocess
import sys

from absl import app, flags

FLAGS = flags.FLAGS
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
EPOCHS, PRUNE_AT = 10, 5


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_bool("child", False, "Be one of the processes, and print what it measured.")


def child():
    """Train as one of the processes; print seconds of each epoch, widths and the end's accuracy."""
    import setting

    from adprune_keras import ADPrune, data
    from adprune_keras.live import devices

    devices.distribute("data_parallel")
    many, process = devices.processes()
    dataset = data.load(
        "digits", batch_size=128, image_size=32, train_examples=11 * 128, processes=(many, process)
    )
    model = setting.network("VGG11", dataset.classes, FLAGS.width_scale, channels=1)
    prune, epochs = ADPrune(schedule=[PRUNE_AT], seed=0, verbose=0), setting.Epochs()
    with devices.together(many, process):
        history = model.fit(
            dataset.train,
            epochs=EPOCHS,
            callbacks=[prune, epochs],
            shuffle=False,
            verbose=0,
        )
    found = {"widths": [net["widths"] for net in prune.record], "seconds": epochs.seconds}
    print(json.dumps(found | {"loss": history.history["loss"][-1]}), flush=True)


def train(many):
    """Train as so many processes; return what the first one measured."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": ONE_THREAD,
        "OMP_NUM_THREADS": "1",
    }
    own |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}"}
    own |= {"KERAS_DISTRIBUTION_NUM_PROCESSES": str(many)}
    command = [sys.executable, __file__, "--child", f"--width_scale={FLAGS.width_scale}"]
    started = [
        subprocess.Popen(
            command,
            env=os.environ | own | {"KERAS_DISTRIBUTION_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(many)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{many} processes failed.")
    return json.loads(outputs[0].splitlines()[-1])


def main(_):
    """Print the table."""
    if FLAGS.child:
        return child()
    from adprune_keras.files.atomic import write_text
    from adprune_keras.report.table import markdown_table

    found = {many: train(many) for many in (1, 2)}
    times = {
        many: [
            statistics.median(f["seconds"][start:end])
            for start, end in ((1, PRUNE_AT), (PRUNE_AT + 1, EPOCHS))
        ]
        for many, f in found.items()
    }
    rows = [(many, *(f"{t:.2f} s" for t in times[many]), f"{found[many]['loss']:.4f}") for many in found]
    rows.append(("1 / 2", *(f"{a / b:.2f}x" for a, b in zip(times[1], times[2], strict=True)), ""))
    print("\n".join(markdown_table(("processes", "epoch of net0", "epoch of net1", "last loss"), rows)))
    one, two = (found[many]["widths"][-1] for many in (1, 2))
    apart = max(abs(one[name] - two[name]) for name in one)
    print(f"Widths after the prune: {apart} channels apart at the most.")
    if FLAGS.output:
        write_text(FLAGS.output, json.dumps(found))


if __name__ == "__main__":
    define_flags()
    app.run(main)
