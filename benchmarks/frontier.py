"""Controls that the paper lacks: does activation density beat what costs the same to train or to run?

    python benchmarks/frontier.py --data=cifar10.npz --output=frontier

One data set, one recipe, several arms a seed; each finished arm is a JSON line in --output, and a second
call of the same command goes on where the first ended. `net0` is one dense net a seed, stopped at
--prune_at epochs of a cosine schedule over --epochs; the arms that prune all start from it, with
a schedule afresh over the epochs that are left, as adprune-train does. `early` and `gradual` are runs
of ADPrune from the very first epoch, with one schedule over all of theirs:

adprune random   widths by density, new weights (the paper)
adprune inherit  widths by density, the densest channels keep weights and momentum
random channels  as adprune inherit, but the channels that stay are drawn
uniform inherit  as adprune inherit, but all layers have the same share of their width, at equal MACs
gradual          a small prune every --gradual_every epochs from --first_prune on until the OPS
                 reduction of the arms above is reached, inheriting; --epochs in all
gradual, MACs    the same, for as many epochs as cost what adprune's whole run cost in MACs
coupled          as gradual, with ADPrune(shortcuts="couple"): identities stay identities
coupled, MACs    the same, for as many epochs as cost the same
early, MACs      one prune by density at --first_prune (and a second one where that falls short of the
                 same OPS reduction), inheriting; as many epochs as cost the same
dense            the dense network for --epochs
scratch          adprune's final network from scratch, for --epochs
scratch, MACs    the same, at equal training MACs
uniform          the network of uniform width from scratch, for --epochs
uniform, MACs    the same, at equal training MACs

The first 10,000 training images, quarter width, batch 128, SGD with momentum 0.9, weight decay 5e-4; all
test images. About an hour a seed on two quiet cores.
"""

import collections
import json
import pathlib
import statistics
import time

import keras
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure

from adprune_keras import (
    ADPrune,
    cost,
    data,
    layer_widths,
    models,
    ops_reduction,
    params_reduction,
    training_complexity,
)
from adprune_keras.counting.counts import COUNTS
from adprune_keras.files.atomic import atomic, write_text
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild
from adprune_keras.live.exchange import Net, swap
from adprune_keras.live.optimizer import optimizer_recipe
from adprune_keras.prune.schedule import Saturation
from adprune_keras.prune.widths import WidthRule, next_widths
from adprune_keras.record.directory import save_figure
from adprune_keras.report.table import both, markdown_table
from adprune_keras.train import recipe

FLAGS = flags.FLAGS
SWAPPED = ("adprune random", "adprune inherit", "random channels", "uniform inherit")
WHOLE = ("gradual", "gradual, MACs", "coupled", "coupled, MACs", "early, MACs")
PRUNED = (*SWAPPED, *WHOLE)
SCRATCH = ("dense", "scratch", "scratch, MACs", "uniform", "uniform, MACs")
COUNT = "deployed"  # what equal MACs are equal in


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "Folder for results, net0s and the figure.", required=True)
    flags.DEFINE_string("network", "ResNet18", "Network of the factories.")
    flags.DEFINE_float("learning_rate", 0.1, "Of SGD, at the start.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("train_examples", 10000, "Training images.")
    flags.DEFINE_integer("epochs", 20, "Epochs of an arm.")
    flags.DEFINE_integer("prune_at", 7, "Epochs of net0 before the prune.")
    flags.DEFINE_float("gradual_shrink", 0.15, "Most that a prune of the gradual arms takes of a layer.")
    flags.DEFINE_integer("first_prune", 2, "Epochs of net0 in the arms early and gradual.")
    flags.DEFINE_integer("gradual_every", 1, "Epochs from prune to prune in the gradual arms.")
    flags.DEFINE_integer("round_to", 1, "WidthRule(round_to=...).")
    flags.DEFINE_multi_integer("seed", [0, 1], "Seeds.")
    flags.DEFINE_multi_enum("arm", [*PRUNED, *SCRATCH], [*PRUNED, *SCRATCH], "Arms to run.")


class Bench:
    """One seed: its data, its net0, and the arms that it runs."""

    def __init__(self, seed):
        self.seed = seed
        self.folder = pathlib.Path(FLAGS.output)
        self.dataset = data.load(
            FLAGS.data, batch_size=128, train_examples=FLAGS.train_examples, seed=seed
        )
        self.widths = {
            name: max(1, round(w * FLAGS.width_scale))
            for name, w in models.default_widths(FLAGS.network).items()
        }
        self.dense_cost = cost(self.build(self.widths))

    def build(self, widths):
        """Return a compiled network of new weights, the same for the same seed and widths."""
        keras.utils.set_random_seed(self.seed)
        model = models.NETWORKS[FLAGS.network](
            input_shape=self.dataset.input_shape, classes=self.dataset.classes, widths=widths
        )
        optimizer = keras.optimizers.SGD(FLAGS.learning_rate, momentum=0.9, weight_decay=5e-4)
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
        return model

    def fit(self, model, epochs, length=None, callbacks=()):
        """Train for the first `epochs` of a cosine decay over `length`; return `{log: values}`.

        The test images are looked at in the end.
        """

        def rate(epoch, _):
            return recipe.learning_rate_at("cosine", FLAGS.learning_rate, epoch, length or epochs)

        history = model.fit(
            self.dataset.train,
            epochs=epochs,
            validation_data=self.dataset.test,
            validation_freq=epochs,
            callbacks=[*callbacks, keras.callbacks.LearningRateScheduler(rate)],
            shuffle=False,
            verbose=0,
        )
        return history.history

    def net0(self):
        """Train net0, or read what is known of it: where it lies, its densities, its seconds."""
        path = self.folder / f"net0_{self.seed}.keras"
        facts = path.with_suffix(".json")
        if not facts.exists():
            model = self.build(self.widths)
            watch = ADPrune(schedule=[FLAGS.prune_at + 1], verbose=0)  # it measures, and never prunes
            begin = time.perf_counter()
            self.fit(model, FLAGS.prune_at, length=FLAGS.epochs, callbacks=[watch])
            entry = watch.record[0]
            with atomic(path) as temporary:
                model.save(temporary)
            known = {"densities": entry["channel_densities"], "accuracy": entry["logs"]["val_accuracy"]}
            write_text(facts, json.dumps(known | {"seconds": time.perf_counter() - begin}))
        known = json.loads(facts.read_text())
        densities = {name: np.array(d) for name, d in known["densities"].items()}
        return path, densities, known["seconds"]

    def target(self, uniform):
        """Return the widths that the arms prune to: by density, or uniform at the same MACs."""
        _, densities, _ = self.net0()
        means = {name: d.mean() for name, d in densities.items()}
        by_density = next_widths(self.widths, means, WidthRule(round_to=FLAGS.round_to))
        if not uniform:
            return by_density
        wanted, low, high = cost(self.build(by_density)).deployed.macs, 0.0, 1.0

        def scaled(share):
            return {name: max(1, round(w * share)) for name, w in self.widths.items()}

        def off(share):
            return cost(self.build(scaled(share))).deployed.macs - wanted

        for _ in range(8):  # to half a percent of the widths
            middle = (low + high) / 2
            low, high = (low, middle) if off(middle) > 0 else (middle, high)
        return scaled(min((low, high), key=lambda share: abs(off(share))))

    def arm(self, name):
        """Run one arm; return its line of results."""
        widths = self.widths if name == "dense" else self.target("uniform" in name)
        begin, before = time.perf_counter(), 0.0
        dense = dict.fromkeys(COUNTS, 1.0)
        if name in WHOLE:
            model, logs, nets = self.whole(name, widths)
        elif name in SWAPPED:
            model, logs, before = self.pruned(name, widths)
            after = FLAGS.epochs - FLAGS.prune_at
            nets = [(dense, FLAGS.prune_at), (self.reduction(model), after)]
        else:
            model, epochs = self.build(widths), FLAGS.epochs
            reduction = self.reduction(model)
            if name.endswith("MACs"):
                epochs = self.affordable([], reduction[COUNT])
            watch = [ADPrune(schedule=Saturation(max_prunes=0), verbose=0)] if name == "dense" else []
            logs, nets = self.fit(model, epochs, callbacks=watch), [(reduction, epochs)]
        return {
            "arm": name,
            "seed": self.seed,
            "accuracy": logs["val_accuracy"][-1],
            "epochs": [epochs for _, epochs in nets],
            "widths": list(layer_widths(model).values()),
            "ops_reduction": self.reduction(model),
            "params_reduction": {c: params_reduction(self.dense_cost, cost(model), c) for c in COUNTS},
            "complexity": {c: training_complexity([(r[c], e) for r, e in nets]) for c in COUNTS},
            "seconds": before + time.perf_counter() - begin,
            "logs": logs,
        }

    def reduction(self, model):
        """Return a model's OPS reduction, both ways of counting."""
        return {c: ops_reduction(self.dense_cost, cost(model), c) for c in COUNTS}

    def affordable(self, before, last):
        """Return the epochs that cost what adprune's whole run does, in MACs.

        Args:
            before: OPS reduction of each epoch that is trained before the last net.
            last: OPS reduction of the last net.
        """
        pruned = self.reduction(self.build(self.target(uniform=False)))[COUNT]
        budget = FLAGS.prune_at + (FLAGS.epochs - FLAGS.prune_at) / pruned
        return len(before) + round((budget - sum(1 / r for r in before)) * last)

    def whole(self, name, widths):
        """Run ADPrune from net0's first epoch to the MACs of `widths`; return model, logs, nets."""
        wanted = self.reduction(self.build(widths))[COUNT]
        shrink = 1.0 if name.startswith("early") else FLAGS.gradual_shrink
        rule = WidthRule(max_shrink=shrink, round_to=FLAGS.round_to)
        # Reductions net by net: each layer's density asks for more than a gradual prune may take.
        expected, now = [1.0], self.widths
        while expected[-1] < wanted:
            now = next_widths(now, dict.fromkeys(now, 0.0), rule)
            expected.append(min(wanted, self.reduction(self.build(now))[COUNT]))
        start, step = FLAGS.first_prune, FLAGS.gradual_every
        before = [1.0] * start + [r for r in expected[1:-1] for _ in range(step)]
        epochs = self.affordable(before, wanted) if name.endswith("MACs") else FLAGS.epochs
        model = self.build(self.widths)
        prune = ADPrune(  # one prune more than expected: it ends at the target
            schedule=list(range(start, start + step * len(expected), step)),
            rule=rule,
            shortcuts="couple" if name.startswith("coupled") else "project",
            target=wanted,
            seed=self.seed,
            verbose=0,
        )
        logs = self.fit(model, epochs, callbacks=[prune])
        return model, logs, [(net["ops_reduction"], net["epochs"]) for net in prune.record]

    def pruned(self, name, widths):
        """Prune net0 and train on; return the model, its logs, and the seconds of net0."""
        path, densities, seconds = self.net0()
        model = keras.models.load_model(path)
        weights = "random" if name == "adprune random" else "inherit"
        scores = densities if name in ("adprune inherit", "uniform inherit") else None
        recipe, groups = optimizer_recipe(model.optimizer), find_groups(model)
        new = rebuild(model, groups, widths, weights, scores, self.seed + 1)
        swap(model, Net(new.model, recipe()), new.origins)
        return model, self.fit(model, FLAGS.epochs - FLAGS.prune_at), seconds


def finished():
    """Return the results that the output folder holds, as `{(arm, seed): line}`."""
    path = pathlib.Path(FLAGS.output) / "arms.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {(line["arm"], line["seed"]): line for line in map(json.loads, lines)}


def summarize(results):
    """Print the table of means with the spread over seeds, and draw accuracy against training MACs."""
    arms = collections.defaultdict(list)
    for (arm, _), line in results.items():
        arms[arm].append(line)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes, rows = figure.subplots(), []
    for arm in [a for a in (*PRUNED, *SCRATCH) if a in arms]:
        lines = arms[arm]
        percent = [100 * line["accuracy"] for line in lines]

        def mean(key, form="{:.2f}x", lines=lines):
            means = {c: statistics.mean(line[key][c] for line in lines) for c in COUNTS}
            return both(means, form)

        rows.append(
            (
                *(arm, len(lines), f"{statistics.mean(percent):.2f} %"),
                f"{min(percent):.2f} to {max(percent):.2f}",
                *(mean("ops_reduction"), mean("params_reduction"), mean("complexity", "{:.1f}")),
                f"{statistics.mean(line['seconds'] for line in lines):.0f}",
            )
        )
        x = [line["complexity"][COUNT] for line in lines]
        marker = "o" if arm in PRUNED else "s"
        axes.scatter(x, percent, label=arm, marker=marker)
    header = ("arm", "seeds", "accuracy", "range", "OPS reduction", "parameters reduction")
    print("\n".join(markdown_table((*header, "training complexity", "seconds"), rows)))
    print("Reductions and complexities: paper count / deployed count.")
    axes.set_xlabel("training complexity (epochs of the dense network, deployed count)")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(fontsize="x-small")
    for suffix in ("png", "svg"):
        save_figure(FLAGS.output, f"frontier.{suffix}", figure)


def main(_):
    """Run the arms that are missing; print the table of all."""
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in FLAGS.seed:
        missing = [arm for arm in FLAGS.arm if (arm, seed) not in finished()]
        bench = Bench(seed) if missing else None
        for arm in missing:
            line = bench.arm(arm)
            with open(folder / "arms.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"seed {seed}, {arm}: {100 * line['accuracy']:.2f} %, {line['seconds']:.0f} s",
                flush=True,
            )
    summarize(finished())


if __name__ == "__main__":
    define_flags()
    app.run(main)
