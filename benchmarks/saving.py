"""What pruning saves on the clock: a pruned run's seconds over the dense run's, beside Eq. 4's ratio.

    python benchmarks/saving.py --data=cifar10.npz [--output=saving.json]

For each of --network and number of prunes: the dense run of --epochs, then, in the same process, one
pruned run for each of --round_to with the prunes spread over its first half, rebuild and retrace
included. An epoch has --train_examples images; validation is left out. Batch 128. What is left of the
saving depends on the width: at a quarter of it, batch normalisation, ReLU and pooling, whose work falls
with the width and not with its square, take most of a step.
"""

import statistics

import setting
from absl import app, flags

from adprune_keras import ADPrune, WidthRule, data, models, training_complexity
from adprune_keras.counting.counts import COUNTS
from adprune_keras.report.table import both

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["VGG19", "ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_multi_integer("round_to", [1, 8], "Widths are multiples of this.")
    flags.DEFINE_multi_integer("prunes", [1, 2], "Prunes of a run.")
    flags.DEFINE_integer("epochs", 10, "Epochs of a run.")
    flags.DEFINE_integer("train_examples", 768, "Images of an epoch.")
    flags.DEFINE_float("width_scale", 1.0, "Widths against the network's own.")


def fit(network, dataset, prune):
    """Train from scratch; return the seconds of each epoch."""
    model = setting.network(network, dataset.classes, FLAGS.width_scale)
    epochs = setting.Epochs()
    callbacks = [*([prune] if prune else []), epochs]
    model.fit(dataset.train, epochs=FLAGS.epochs, verbose=0, shuffle=False, callbacks=callbacks)
    return epochs.seconds


def one_run(network, dataset, at, round_to):
    """Train a run pruned after the epochs `at`; return what it took and what Eq. 4 says."""
    prune = ADPrune(schedule=at, rule=WidthRule(round_to=round_to), seed=0, verbose=0)
    seconds, nets = fit(network, dataset, prune), prune.record
    return {
        "network": network,
        "prunes": len(at),
        "round_to": round_to,
        "seconds": seconds,
        "eq4": {
            c: training_complexity([(n["ops_reduction"][c], n["epochs"]) for n in nets]) / FLAGS.epochs
            for c in COUNTS
        },
        "macs": 1 / nets[-1]["ops_reduction"]["deployed"],
        "last_net": nets[-1]["epochs"],
        "rebuild": sum(n["rebuild_seconds"] for n in nets[1:]),
        "retrace": sum(n["retrace_seconds"] for n in nets[1:]),
    }


def row(found, dense):
    """Return a row of the table: a pruned run beside the dense one."""
    ratio = sum(found["seconds"]) / sum(dense)
    after = slice(1 - found["last_net"], None)  # without the epoch that retraces
    last = statistics.median(found["seconds"][after]) / statistics.median(dense[after])
    return (
        *(found["network"], found["prunes"], found["round_to"], f"{ratio:.2f}"),
        *(both(found["eq4"], "{:.2f}"), f"{ratio / found['eq4']['deployed']:.2f}"),
        f"{last:.2f} / {found['macs']:.2f}",
        *(f"{found['rebuild']:.1f} + {found['retrace']:.1f} s", f"{sum(dense):.0f} s"),
    )


def main(_):
    """Print the table."""
    dataset = data.load(FLAGS.data, batch_size=128, train_examples=FLAGS.train_examples, seed=0)
    rows, found = [], []
    for network in FLAGS.network:
        for prunes in FLAGS.prunes:
            at = [round(FLAGS.epochs * (i + 1) / (2 * prunes + 2)) for i in range(prunes)]
            dense = fit(network, dataset, None)
            for round_to in FLAGS.round_to:
                found.append(one_run(network, dataset, at, round_to) | {"dense": dense})
                rows.append(row(found[-1], dense))
                print(*rows[-1], flush=True)
    header = ("network", "prunes", "round_to", "time, ratio", "Eq. 4's ratio", "time / Eq. 4 (deployed)")
    header += ("last net: time / MACs", "rebuild + first steps", "dense run")
    setting.report("seconds of pruned runs against dense ones", header, rows, found, FLAGS.output)


if __name__ == "__main__":
    define_flags()
    app.run(main)
