"""What pruning saves on the clock: a pruned run's seconds over the dense run's, beside Eq. 4's ratio.

    python benchmarks/saving.py --data=cifar10.npz [--output=saving.json]

For each of --network, --round_to and number of prunes: a run of --epochs with the prunes spread over its
first half, and the dense run of as many epochs, in turn in one process, rebuild and retrace included.
An epoch has --train_examples images; validation is left out. Quarter width, batch 128.
"""

import setting
from absl import app, flags

from adprune_keras import ADPrune, WidthRule, data, models, tables, training_complexity
from adprune_keras.accounting import COUNTS

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")
    flags.DEFINE_multi_enum("network", ["VGG19", "ResNet18"], list(models.NETWORKS), "Networks.")
    flags.DEFINE_multi_integer("round_to", [1, 8], "Widths are multiples of this.")
    flags.DEFINE_multi_integer("prunes", [1, 2], "Prunes of a run.")
    flags.DEFINE_integer("epochs", 10, "Epochs of a run.")
    flags.DEFINE_integer("train_examples", 2560, "Images of an epoch.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")


def fit(network, dataset, prune):
    """Train from scratch; return the seconds of each epoch."""
    model = setting.network(network, dataset.classes, FLAGS.width_scale)
    epochs = setting.Epochs()
    callbacks = [*([prune] if prune else []), epochs]
    model.fit(dataset.train, epochs=FLAGS.epochs, verbose=0, shuffle=False, callbacks=callbacks)
    return epochs.seconds


def main(_):
    """Print the table."""
    dataset = data.load(FLAGS.data, batch_size=128, train_examples=FLAGS.train_examples, seed=0)
    rows, found = [], []
    for network in FLAGS.network:
        for prunes in FLAGS.prunes:
            at = [1 + i * FLAGS.epochs // (2 * prunes) for i in range(prunes)]
            for round_to in FLAGS.round_to:
                prune = ADPrune(prune_at=at, rule=WidthRule(round_to=round_to), seed=0, verbose=0)
                pruned, dense = fit(network, dataset, prune), fit(network, dataset, None)
                nets = prune.record
                ratio = sum(pruned) / sum(dense)
                eq4 = {
                    c: training_complexity([(n["ops_reduction"][c], n["epochs"]) for n in nets])
                    / FLAGS.epochs
                    for c in COUNTS
                }
                rebuild, retrace = (
                    sum(n[f"{key}_seconds"] for n in nets[1:]) for key in ("rebuild", "retrace")
                )
                last = pruned[-1] / dense[-1]
                macs = 1 / nets[-1]["ops_reduction"]["deployed"]
                rows.append(
                    (
                        *(network, prunes, round_to, f"{ratio:.2f}", tables.both(eq4, "{:.2f}")),
                        *(f"{ratio / eq4['deployed']:.2f}", f"{last:.2f} / {macs:.2f}"),
                        *(f"{rebuild:.1f} + {retrace:.1f} s", f"{sum(dense):.0f} s"),
                    )
                )
                found.append({"network": network, "prunes": prunes, "round_to": round_to, "eq4": eq4})
                found[-1] |= {"pruned": pruned, "dense": dense, "rebuild": rebuild, "retrace": retrace}
    header = ("network", "prunes", "round_to", "time, ratio", "Eq. 4's ratio", "time / Eq. 4 (deployed)")
    header += ("last net: time / MACs", "rebuild + first steps", "dense run")
    setting.report("seconds of pruned runs against dense ones", header, rows, found, FLAGS.output)


if __name__ == "__main__":
    define_flags()
    app.run(main)
