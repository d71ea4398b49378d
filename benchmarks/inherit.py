"""Random against inherited weights: accuracy right after a prune, an epoch later, at the end.

    python benchmarks/inherit.py --data=cifar10.npz --network=VGG19 --learning_rate=0.05

For each seed one dense net trains `--dense_epochs`; then it is pruned by its densities and trains on for
`--final_epochs` in three ways from the same state: weights drawn anew (optimizer and learning-rate
schedule start afresh), inherited with the schedule going on, inherited with the schedule starting
afresh. "re-estimated" is the inherited net right after the prune once a pass over training batches has
renewed the statistics of its batch normalisations, without a training step. The first 10,000
training images, quarter width, batch 128, SGD with momentum 0.9, weight decay 5e-4, cosine decay; all
test images.
Half an hour a seed on two cores.
"""

import json
import statistics

import keras
import numpy as np
from absl import app, flags

from adprune_keras import ADPrune, cost, data, models, ops_reduction
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild
from adprune_keras.live.exchange import Net, current_net, swap
from adprune_keras.live.optimizer import optimizer_recipe
from adprune_keras.prune.widths import WidthRule, next_widths

FLAGS = flags.FLAGS
WAYS = ("random", "inherit, schedule goes on", "inherit, schedule afresh")
WHEN = ("dense", "right after", "re-estimated", "one epoch later", "end")


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("network", "VGG19", "Network of the factories.")
    flags.DEFINE_float("learning_rate", 0.05, "Of SGD, at the start.")
    flags.DEFINE_float("width_scale", 0.25, "Widths against the network's own.")
    flags.DEFINE_integer("train_examples", 10000, "Training images.")
    flags.DEFINE_integer("dense_epochs", 10, "Epochs before the prune.")
    flags.DEFINE_integer("final_epochs", 12, "Epochs after it.")
    flags.DEFINE_multi_integer("seed", [0, 1, 2], "Seeds.")
    flags.DEFINE_string("output", None, "A file to append a JSON line to for each seed.")


def fit(model, dataset, rate, epochs, callbacks=()):
    """Train, with a learning rate by epoch; return test accuracies by epoch."""
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, _: rate(epoch))
    history = model.fit(
        dataset.train,
        epochs=epochs,
        validation_data=dataset.test,
        callbacks=[*callbacks, scheduler],
        shuffle=False,
        verbose=0,
    )
    return history.history["val_accuracy"]


def accuracy(model, dataset):
    """Test accuracy."""
    return model.evaluate(dataset.test, verbose=0, return_dict=True)["accuracy"]


def re_estimate(model, dataset):
    """Renew the statistics of batch normalisations in one pass, without training."""
    for x, _ in dataset.train:
        model(x, training=True)


def one_seed(seed):
    """Return `{way: {when: accuracy}}` and the OPS reduction."""
    keras.utils.set_random_seed(seed)
    dataset = data.load(
        FLAGS.data, batch_size=128, augment="auto", train_examples=FLAGS.train_examples, seed=seed
    )
    widths = {
        name: max(1, round(w * FLAGS.width_scale))
        for name, w in models.default_widths(FLAGS.network).items()
    }
    model = models.NETWORKS[FLAGS.network](
        input_shape=dataset.input_shape, classes=dataset.classes, widths=widths
    )
    optimizer = keras.optimizers.SGD(FLAGS.learning_rate, momentum=0.9, weight_decay=5e-4)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    recipe = optimizer_recipe(optimizer)
    dense, final = FLAGS.dense_epochs, FLAGS.final_epochs

    def whole(epoch):
        return recipe.learning_rate_at("cosine", FLAGS.learning_rate, epoch, dense + final)

    watch = ADPrune(schedule=[dense + 1], verbose=0)  # never prunes: it measures
    before = fit(model, dataset, whole, dense, [watch])[-1]
    densities = {k: np.array(v) for k, v in watch.record[0]["channel_densities"].items()}
    means = {name: d.mean() for name, d in densities.items()}
    new_widths = next_widths(watch.record[0]["widths"], means, WidthRule())
    net0, groups = current_net(model), find_groups(model)
    state = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    results = {}
    for way in WAYS:
        weights = way.split(",")[0]
        scores = densities if weights == "inherit" else None
        new = rebuild(model, groups, new_widths, weights, scores, seed)
        swap(model, Net(new.model, recipe()), new.origins)
        row = {"dense": before, "right after": accuracy(model, dataset)}
        trained = model.get_weights()
        re_estimate(model, dataset)
        row["re-estimated"] = accuracy(model, dataset)
        model.set_weights(trained)

        def rate(epoch, way=way):
            if way.endswith("goes on"):
                return whole(dense + epoch)
            return recipe.learning_rate_at("cosine", FLAGS.learning_rate, epoch, final)

        after = fit(model, dataset, rate, final)
        row |= {"one epoch later": after[0], "end": after[-1]}
        results[way] = row
        reduction = ops_reduction(cost(net0.graph), cost(model), "deployed")
        swap(model, net0)
        for variable, value in zip((*model.variables, *model.optimizer.variables), state, strict=True):
            variable.assign(value)
    return results, reduction


def main(_):
    """Run all seeds; print a line for each and the table of means."""
    rows = []
    for seed in FLAGS.seed:
        results, reduction = one_seed(seed)
        rows.append(results)
        print(f"seed {seed}, OPS {reduction:.2f}x deployed: {json.dumps(results)}", flush=True)
        if FLAGS.output:
            with open(FLAGS.output, "a") as file:
                file.write(
                    json.dumps({"network": FLAGS.network, "seed": seed, "results": results}) + "\n"
                )
    print(
        f"\n| {FLAGS.network}, means of {len(rows)} | {' | '.join(WHEN)} |\n|{'---|' * (len(WHEN) + 1)}"
    )
    for way in WAYS:
        cells = []
        for when in WHEN:
            values = [100 * r[way][when] for r in rows]
            cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    define_flags()
    app.run(main)
