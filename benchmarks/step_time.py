"""Time of a training step of each net of a run against the first one's, interleaved in one process.

    python benchmarks/step_time.py RUN_DIR [...]

Prints, per net, the median of the ratios of step times beside the ratio of deployed MACs: fewer MACs
are not as many times fewer seconds. Random data, batch 128, as `adprune-train` compiles on a CPU.
"""

import sys
import time

import keras
import numpy as np

from adprune_keras import cost, models
from adprune_keras.record.lines import read_record

STEPS, BATCH = 25, 128


def main():
    """Time the nets of each run directory."""
    for directory in sys.argv[1:]:
        header, *entries = read_record(directory)
        shape, classes = header["data"]["input_shape"], header["data"]["classes"]
        nets = []
        for entry in (e for e in entries if e["kind"] == "net"):
            build = models.NETWORKS[header["flags"]["network"]]
            net = build(input_shape=shape, classes=classes, widths=entry["widths"])
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
            net.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
            nets.append(net)
        x = np.random.normal(size=(BATCH, *shape)).astype("float32")
        y = np.random.randint(0, classes, BATCH)
        seconds = np.zeros((STEPS, len(nets)))
        for step in range(-2, STEPS):  # two to warm up
            for i, net in enumerate(nets):
                begin = time.perf_counter()
                net.train_on_batch(x, y)
                if step >= 0:
                    seconds[step, i] = time.perf_counter() - begin
        baseline = cost(nets[0]).deployed.macs
        for i, net in enumerate(nets):
            ratio = np.median(seconds[:, i] / seconds[:, 0])
            print(
                f"{directory} net{i}: step time {ratio:.2f} of net0's "
                f"(median {1000 * np.median(seconds[:, i]):.0f} ms), "
                f"MACs {cost(net).deployed.macs / baseline:.2f}"
            )


if __name__ == "__main__":
    main()
