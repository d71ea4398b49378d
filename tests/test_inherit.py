"""Inherited weights: the pruned net equals the dense one with channels zeroed at their ReLU."""

import os

import keras
import numpy as np
import pytest
from graphs import Generator, random_cut, scramble, silenced
from keras import layers, tree
from toys import compiled, images, mode, plain_cnn

from adprune_keras import ADPrune, WidthRule, activation_density, cost, layer_widths, models, resize
from adprune_keras.counting.count import cost_after
from adprune_keras.graph.cut import Cut, choose
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild

# Sixty graphs by default, six hundred with -m slow; ADPRUNE_GRAPHS=3000 for a long slow run.
FEW, GRAPHS = 60, int(os.environ.get("ADPRUNE_GRAPHS", 600))
BATCH = 10
SMALL = WidthRule(min_width=1)
SHORTCUTS = ("project", "couple")
numpy = keras.ops.convert_to_numpy


@pytest.mark.parametrize(
    "first",
    [
        *range(0, FEW, BATCH),
        *(pytest.param(n, marks=pytest.mark.slow) for n in range(FEW, GRAPHS, BATCH)),
    ],
)
def test_inherited_net_equals_the_dense_one_with_channels_zeroed(first):
    for seed in range(first, first + BATCH):
        check(seed, shortcuts_of(seed))


def test_the_few_graphs_have_every_step_with_both_kinds_of_shortcuts():
    for shortcuts in SHORTCUTS:
        seeds = [seed for seed in range(FEW) if shortcuts_of(seed) == shortcuts]
        taken = {step for seed in seeds for step in Generator.taken(seed)}
        assert taken == set(Generator.steps), shortcuts


def shortcuts_of(seed):
    return SHORTCUTS[seed % 2]


def check(seed, shortcuts):
    """Cut a random graph at random; compare outputs, and the cost that was foretold."""
    model = Generator(seed).model
    rng = np.random.default_rng(seed)
    groups = find_groups(model, shortcuts)
    widths, densities = random_cut(groups, rng)
    kept = choose(groups, widths, densities)
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    rebuilt = rebuild(model, groups, widths, "inherit", densities).model
    expected = tree.flatten(silenced(model, groups, kept)(x, training=False))
    found = tree.flatten(rebuilt(x, training=False))
    for e, f in zip(expected, found, strict=True):
        assert_same(f, e, f"seed {seed}")
    foretold, counted = cost_after(Cut(groups, widths, kept)), cost(rebuilt)
    assert foretold.deployed == counted.deployed, f"seed {seed}"


def assert_same(found, expected, message=""):
    found, expected = keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected)
    assert found.shape == expected.shape
    tolerance = 1e-5 * max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=message)


@pytest.mark.parametrize("shortcuts", ["project", "couple"])
@pytest.mark.parametrize("network", ["VGG11", "ResNet18", "ResNet50"])
def test_factories(network, shortcuts):
    default = models.default_widths(network)
    model = models.NETWORKS[network](input_shape=(16, 16, 3), widths=[8] * len(default))
    rng = np.random.default_rng(0)
    scramble(model, rng)
    groups = find_groups(model, shortcuts)
    assert not any(g.inexact for g in groups.groups)
    widths, densities = random_cut(groups, rng)
    kept = choose(groups, widths, densities)
    x = rng.normal(size=(4, 16, 16, 3)).astype("float32")
    rebuilt = resize(model, widths, weights="inherit", densities=densities, shortcuts=shortcuts)
    assert_same(rebuilt(x), silenced(model, groups, kept)(x))
    inserted = {x.name for x in rebuilt.layers} - {x.name for x in model.layers}
    assert bool(inserted) == (shortcuts == "project" and "ResNet" in network)


def test_dead_channels_cost_nothing():
    """Channels that BN holds below zero: their ReLU gives zero, so nothing changes without them."""
    model = models.ResNet18(input_shape=(16, 16, 3), widths=[8] * 17)
    rng = np.random.default_rng(1)
    scramble(model, rng)
    for name in ("stage1_block1_bn1", "stage3_block2_bn1", "stem_bn"):
        norm = model.get_layer(name)
        alive = np.arange(8) % 3 > 0
        norm.gamma.assign(numpy(norm.gamma) * alive)
        norm.beta.assign(np.where(alive, numpy(norm.beta), -1.0))
    x = rng.normal(size=(4, 16, 16, 3)).astype("float32")
    densities = activation_density(model, x)
    alive = {
        name: int((densities[name] > 0).sum())
        for name in ("stage1_block1_conv1", "stage3_block2_conv1", "stem_conv")
    }
    assert all(width <= 5 for width in alive.values())
    pruned = resize(model, alive, weights="inherit", densities=densities)
    before, after = numpy(model(x)), numpy(pruned(x))
    np.testing.assert_allclose(after, before, rtol=5e-6, atol=1e-6 * np.abs(before).max())


def test_the_densest_stay_or_those_given_or_a_seeded_choice():
    model = plain_cnn(4)
    density = {"conv1": np.array([0.2, 0.9, 0.2, 0.5])}
    kernel = numpy(model.get_layer("conv1").kernel)

    def kept(**kwargs):
        small = numpy(resize(model, {"conv1": 2}, weights="inherit", **kwargs).get_layer("conv1").kernel)
        return [
            next(i for i in range(4) if np.array_equal(kernel[..., i], small[..., k])) for k in (0, 1)
        ]

    assert kept(densities=density) == [1, 3]
    assert kept(densities={"conv1": [1, 0, 1, 0]}) == [0, 2]
    assert kept(seed=1) == kept(seed=1)
    assert len({tuple(kept(seed=s)) for s in range(20)}) > 3


def test_equal_parts_keep_their_densest():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(4, 3, groups=2, activation="relu", name="grouped")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    groups = find_groups(model)
    densities = {"conv": [0.9, 0.8, 0.7, 0.1, 0.3, 0.2], "grouped": [0.1, 0.2, 0.3, 0.4]}
    kept = choose(groups, {"conv": 4, "grouped": 2}, densities)
    assert {k: v.tolist() for k, v in kept.items()} == {"conv": [0, 1, 4, 5], "grouped": [1, 3]}
    with pytest.raises(ValueError, match="'conv' must be a multiple of 2.*Received: width 3"):
        resize(model, {"conv": 3})


def test_statistics_of_a_normalization_layer_survive():
    norm = layers.Normalization()
    norm.adapt(np.array([[1.0], [3.0]]))
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(4, 1, activation="relu", name="conv")(norm(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    x = np.full((1, 4, 4, 1), 5.0, "float32")
    for weights in ("random", "inherit"):
        rebuilt = resize(model, {"conv": 2}, weights=weights)
        np.testing.assert_allclose(numpy(rebuilt.layers[1](x)), 3.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "magnitude"}, "`weights` must be one of .*Received: weights='magnitude'"),
        ({"widths": {"conv1": 9}}, "'conv1' has 8 channels to inherit. Received: width 9"),
        ({"densities": {"conv1": [0.5]}}, "must hold 8 finite numbers for layer 'conv1'"),
        ({"densities": {"conv1": [np.nan] * 8}}, "must hold 8 finite numbers for layer 'conv1'"),
        ({"densities": {}}, "must hold 8 finite numbers for layer 'conv1'. Received: None"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        resize(plain_cnn(), **({"widths": {"conv1": 4}, "weights": "inherit"} | arguments))


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "plain": lambda: keras.optimizers.SGD(0.1),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, centered=True, momentum=0.9),
    "lion": lambda: keras.optimizers.Lion(0.001),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=None),
    "accumulation": lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 100), momentum=0.9
    ),
}


class Snapshot(keras.callbacks.Callback):
    """Variables and the optimizer's state around the prune that follows epoch `at`."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def state(self):
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        slots = {
            (name, place): numpy(slot)
            for name, value in vars(inner).items()
            if isinstance(value, list) and name not in ("_variables", "_trainable_variables")
            for place, slot in enumerate(value)
            if isinstance(slot, keras.Variable)
        }
        scalars = {
            name: numpy(v)
            for o in (optimizer, inner)
            for name, v in vars(o).items()
            if isinstance(v, keras.Variable)
        }
        weights = {v.path: numpy(v) for v in self.model.weights if "adprune" not in v.path}
        return weights, slots, scalars

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.at:
            self.before = self.state()

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at + 1:
            self.after = self.state()


@pytest.mark.filterwarnings("error:.*starts afresh")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_slots_are_the_slices_they_came_from(name):
    """Bit for bit, and the optimizer's counters and learning rate go on."""
    model = plain_cnn(8)
    model.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy", **mode())
    prune = ADPrune(schedule=[3], weights="inherit", rule=SMALL, verbose=0)
    shot = Snapshot(2)  # after 15 steps: in the middle of what gradient accumulation gathers
    model.fit(*images(40), batch_size=8, epochs=4, callbacks=[prune, shot], verbose=0)
    stay = {
        name: np.sort(np.argsort(-np.array(d), kind="stable")[: prune.record[1]["widths"][name]])
        for name, d in prune.record[0]["channel_densities"].items()
    }
    one, two, hidden = (stay[k] for k in ("conv1", "conv2", "hidden"))
    cuts = {
        **{f"bn1/{k}": np.ix_(one) for k in ("gamma", "beta", "moving_mean", "moving_variance")},
        "conv1/kernel": np.ix_(range(3), range(3), range(1), one),
        "conv2/kernel": np.ix_(range(3), range(3), one, two),
        "conv2/bias": np.ix_(two),
        "hidden/kernel": np.ix_(two, hidden),
        "hidden/bias": np.ix_(hidden),
        "out/kernel": np.ix_(hidden, range(4)),
        "out/bias": np.ix_(range(4)),
    }
    (weights, slots, scalars), (new_weights, new_slots, new_scalars) = shot.before, shot.after
    cuts = {path: next(c for end, c in cuts.items() if path.endswith(end)) for path in weights}
    assert sum(v.size for v in new_weights.values()) < sum(v.size for v in weights.values())
    for path, value in weights.items():
        np.testing.assert_array_equal(new_weights[path], value[cuts[path]])
    trainable = [v.path for v in model.trainable_variables]
    for (slot, place), value in slots.items():
        cut, found = cuts[trainable[place]], new_slots[slot, place]
        if value.ndim and len(cut) > value.ndim:  # Adafactor's rows and columns
            cut = cut[:-1] if slot == "_r" else (*cut[:-2], cut[-1])
            cut = tuple(np.ix_(*(c.ravel() for c in cut)))
        np.testing.assert_array_equal(found, value[cut] if value.ndim else value)
        assert name == "adafactor" or value.any()
    assert len(new_slots) == len(slots)
    assert {k: v.tolist() for k, v in new_scalars.items()} == {k: v.tolist() for k, v in scalars.items()}


def test_state_of_an_unknown_form_starts_afresh_and_says_so():
    class Odd(keras.optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.norms = {
                v.path: self.add_variable(shape=(), name=f"norm_{i}") for i, v in enumerate(variables)
            }

    model = plain_cnn(8)
    model.compile(Odd(0.1), "sparse_categorical_crossentropy", **mode())
    prune = ADPrune(schedule=[1], weights="inherit", rule=SMALL, verbose=0)
    with pytest.warns(UserWarning, match="Odd starts afresh in part.*norm_0"):
        model.fit(*images(40), epochs=2, callbacks=[prune], verbose=0)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_next_step_by_hand(name):
    """One full-batch step after an inherited prune equals the update computed from slices."""
    x, y = images(16)
    model = plain_cnn(8)
    for norm in [v for v in model.layers if isinstance(v, layers.BatchNormalization)]:
        norm.trainable = False  # so that one batch has one gradient, whatever came before
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9) if name == "sgd" else keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", **mode())
    prune, shot = ADPrune(schedule=[3], weights="inherit", rule=SMALL, verbose=0), Snapshot(2)
    model.fit(x, y, batch_size=16, epochs=4, shuffle=False, callbacks=[prune, shot], verbose=0)
    weights, slots, scalars = shot.after
    assert scalars["_iterations"] == 3

    twin = resize(model, {}, weights="inherit")
    paths = [v.path for v in twin.trainable_variables]
    for v in twin.weights:
        v.assign(weights[v.path])
    gradients = gradients_of(twin, x, y)
    for place, (path, variable) in enumerate(zip(paths, model.trainable_variables, strict=True)):
        w, g = weights[path].astype("float64"), gradients[place]
        if name == "sgd":
            expected = w + 0.9 * slots["momentums", place] - 0.1 * g
        else:
            m = 0.9 * slots["_momentums", place] + 0.1 * g
            v = 0.999 * slots["_velocities", place] + 0.001 * g**2
            expected = w - 0.01 * np.sqrt(1 - 0.999**4) / (1 - 0.9**4) * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(numpy(variable), expected, rtol=1e-3, atol=2e-5, err_msg=path)


def gradients_of(model, x, y):
    """Gradients of the mean cross-entropy: what one plain SGD step at rate 1 takes off."""
    twin = resize(model, {}, weights="inherit")
    twin.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", **mode())
    before = [numpy(v).astype("float64") for v in twin.trainable_variables]
    twin.train_on_batch(x, y)
    return [b - numpy(v) for b, v in zip(before, twin.trainable_variables, strict=True)]


def test_inherited_prune_hardly_changes_what_the_net_says():
    """Trained, then pruned to what is dense: far better right after the prune than drawn anew."""
    x, y = images(200)
    keras.utils.set_random_seed(0)
    model = compiled(plain_cnn(16), 0.1)
    model.fit(x, y, epochs=15, batch_size=20, verbose=0)
    trained = model.evaluate(x, y, verbose=0)[1]
    densities = activation_density(model, x)
    widths = {name: int(w * 0.75) for name, w in layer_widths(model).items()}
    scores = {}
    for weights in ("random", "inherit"):
        pruned = compiled(resize(model, widths, weights=weights, densities=densities, seed=0))
        scores[weights] = pruned.evaluate(x, y, verbose=0)[1]
    assert scores["random"] + 0.2 < scores["inherit"] <= trained + 0.05
