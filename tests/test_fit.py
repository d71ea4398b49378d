"""`fit` in its many forms, each through a prune: kinds of models, of input, of options."""

import keras
import numpy as np
import pytest
from keras import layers
from toys import compiled, images, mode, plain_cnn, sequential_cnn

from adprune_keras import ADPrune, WidthRule, activation_density, layer_widths, models, resize

X, Y = images(40)
SMALL = WidthRule(min_width=1)
TORCH = keras.backend.backend() == "torch"
TENSORFLOW = keras.backend.backend() == "tensorflow"
numpy = keras.ops.convert_to_numpy


@pytest.fixture(params=["random", "inherit"])
def prune(request):
    return ADPrune(schedule=[1, 2], weights=request.param, rule=SMALL, verbose=0)


def went_through(prune, history, model):
    """Two prunes, every epoch recorded, finite all the way, and the net is what the record says."""
    assert [e["net"] for e in prune.record] == [0, 1, 2]
    assert all(len(values) == 3 for values in history.history.values())
    assert np.isfinite([v for values in history.history.values() for v in values]).all()
    assert layer_widths(model) == prune.record[-1]["widths"]
    for before, after in zip(prune.record, prune.record[1:], strict=False):
        assert all(after["widths"][name] <= width for name, width in before["widths"].items())
        assert sum(after["widths"].values()) < sum(before["widths"].values())


def test_sequential(prune):
    model = compiled(sequential_cnn())
    went_through(prune, model.fit(X, Y, epochs=3, callbacks=[prune], verbose=0), model)
    assert isinstance(model, keras.Sequential)


@pytest.mark.skipif(not TENSORFLOW, reason="written with a GradientTape")
def test_functional_subclass_with_a_train_step_of_its_own(prune):
    import tensorflow as tf

    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, predicted)
            return {m.name: m.result() for m in self.metrics}

    plain = plain_cnn()
    model = compiled(Own(plain.input, plain.output))
    went_through(prune, model.fit(X, Y, epochs=3, callbacks=[prune], verbose=0), model)
    assert type(model) is Own


@pytest.mark.skipif(not TENSORFLOW, reason="tf.data")
def test_tf_data(prune):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    model = compiled(plain_cnn())
    history = model.fit(data, validation_data=data, epochs=3, callbacks=[prune], verbose=0)
    went_through(prune, history, model)


def test_generator_of_batches(prune):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return X[i * 10 : i * 10 + 10], Y[i * 10 : i * 10 + 10]

    model = compiled(plain_cnn())
    went_through(prune, model.fit(Batches(), epochs=3, callbacks=[prune], verbose=0), model)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 1.0, 1: 2.0, 2: 1.0, 3: 0.5}},
        {"sample_weight": np.linspace(0.5, 1.5, 40)},
        {"validation_split": 0.25},
        {"initial_epoch": 4, "epochs": 7},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_fit(prune, options):
    model = compiled(plain_cnn())
    history = model.fit(X, Y, callbacks=[prune], verbose=0, **({"epochs": 3} | options))
    went_through(prune, history, model)


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        pytest.param(
            {"steps_per_execution": 4},
            marks=pytest.mark.skipif(TORCH, reason="not in Keras on torch"),
        ),
        pytest.param(
            {"jit_compile": True},
            marks=pytest.mark.skipif(TORCH, reason="torch compiles for long"),
        ),
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_compile(prune, options):
    model = compiled(plain_cnn(), **options)
    history = model.fit(X, Y, batch_size=5, epochs=3, callbacks=[prune], verbose=0)
    went_through(prune, history, model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(prune, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(plain_cnn())
    finally:
        keras.config.set_dtype_policy("float32")
    policies = {layer.name: layer.dtype_policy.name for layer in model.layers[1:]}
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    went_through(prune, model.fit(X, Y, epochs=3, callbacks=[prune], verbose=0), model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == scaled
    assert {layer.name: layer.dtype_policy.name for layer in model.layers[1:]} == policies


def test_several_inputs_and_outputs(prune):
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((8, 8, 1), name="b")
    x, y = (
        layers.Conv2D(6, 3, activation="relu", name=f"{t.name}_conv")(layers.Rescaling(0.5)(t))
        for t in (a, b)
    )
    x = layers.Concatenate()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu", name="joint")(x))
    outputs = {"kind": layers.Dense(4, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    model = keras.Model({"a": a, "b": b}, outputs)
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    model.compile("adam", losses, metrics={"kind": ["accuracy"]}, **mode())
    data = {"a": X, "b": X[::-1]}, {"kind": Y, "size": Y.astype("float32")}
    history = model.fit(*data, epochs=3, callbacks=[prune], verbose=0)
    went_through(prune, history, model)
    assert list(layer_widths(model)) == ["a_conv", "b_conv", "joint"]
    assert set(model.predict(data[0], verbose=0)) == {"kind", "size"}


def backbone():
    """A network called inside another, as in transfer learning."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(8, 3, activation="relu", name="conv2")(x)
    return keras.Model(inputs, x, name="backbone")


def with_backbone():
    inputs = keras.Input((8, 8, 1), name="image")
    inner = backbone()
    x = layers.Conv2D(6, 1, activation="relu", name="top")(inner(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


def test_nested_model(prune, tmp_path):
    model = compiled(with_backbone())
    assert list(layer_widths(model)) == ["backbone/conv1", "backbone/conv2", "top"]
    went_through(prune, model.fit(X, Y, epochs=3, callbacks=[prune], verbose=0), model)
    inner = model.get_layer("backbone")
    assert inner.get_layer("conv1").filters == layer_widths(model)["backbone/conv1"] < 8
    model.save(tmp_path / "nested.keras")
    loaded = keras.models.load_model(tmp_path / "nested.keras")
    np.testing.assert_allclose(numpy(loaded(X)), numpy(model(X)), rtol=1e-5)


@pytest.mark.parametrize("training", [None, False, True])
def test_training_is_what_keras_makes_of_it(training):
    """Dropout, statistics and nested models behave in `fit` as they do without the callback."""

    def network():
        keras.utils.set_random_seed(0)
        inner = backbone()
        inputs = keras.Input((8, 8, 1), name="image")
        x = layers.Dropout(0.5, name="first", seed=1)(inputs)
        x = layers.BatchNormalization(name="norm")(inner(x, training=training))
        x = layers.Dropout(0.5, name="dropout", seed=2)(x, training=training)
        x = layers.Dense(4, activation="softmax", name="out")(layers.Flatten()(x))
        return compiled(keras.Model(inputs, x))

    model, plain = network(), network()
    measured = model.fit(X, Y, epochs=2, shuffle=False, callbacks=[ADPrune(verbose=0)], verbose=0)
    expected = plain.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(measured.history["loss"], expected.history["loss"], rtol=1e-4)
    for a, b in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=1e-3, atol=1e-5, err_msg=a.path)
    before = numpy(network().get_layer("norm").moving_mean)
    assert not np.array_equal(numpy(model.get_layer("norm").moving_mean), before)


def test_frozen_layers():
    """Drawn anew they would never train: refused. Inherited, they stay frozen."""
    model = with_backbone()
    model.get_layer("backbone").trainable = False
    with pytest.raises(ValueError, match=r"not trainable: \['backbone/conv1', 'backbone/bn'"):
        compiled(model).fit(X, Y, callbacks=[ADPrune(weights="random", verbose=0)], verbose=0)
    prune = ADPrune(schedule=[1], weights="inherit", rule=SMALL, verbose=0)
    compiled(model).fit(X, Y, epochs=2, callbacks=[prune], verbose=0)
    assert not model.get_layer("backbone").trainable
    assert len(model.trainable_variables) == 4  # of "top" and the last layer
    assert layer_widths(model)["backbone/conv1"] < 8


def test_coupled_shortcuts():
    model = compiled(models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[6] * 17))
    names = [x.name for x in model.layers]
    prune = ADPrune(schedule=[1], shortcuts="couple", weights="inherit", rule=SMALL, verbose=0)
    model.fit(X, Y, epochs=2, callbacks=[prune], verbose=0)
    assert [x.name for x in model.layers] == names
    ends = ("stem_conv", "stage1_block1_conv2", "stage1_block2_conv2")
    tied = [model.get_layer(name).filters for name in ends]
    assert tied[0] == tied[1] == tied[2] < 6
    assert list(prune.record[1]["widths"]) == list(layer_widths(model, shortcuts="couple"))


def test_budget_ends_pruning():
    model = compiled(plain_cnn(16))
    prune = ADPrune(schedule=[1, 2, 3], rule=SMALL, target=2.0, verbose=0)
    model.fit(X, Y, epochs=4, callbacks=[prune], verbose=0)
    reductions = [e["ops_reduction"]["deployed"] for e in prune.record]
    assert len(reductions) == 2
    assert 1.8 < reductions[1] <= 2.0
    assert prune.record[0]["reason"] == "epoch 1 is in the schedule; target=2 is reached"
    assert prune.final


def test_layers_under_exclude_keep_their_width():
    model = compiled(plain_cnn())
    rule = WidthRule(min_width=1, exclude=["conv.*"])
    model.fit(X, Y, epochs=2, callbacks=[ADPrune(schedule=[1], rule=rule, verbose=0)], verbose=0)
    widths = layer_widths(model)
    assert (widths["conv1"], widths["conv2"]) == (8, 8)
    assert widths["hidden"] < 16
    misspelt = ADPrune(rule=WidthRule(exclude="convv.*"))
    with pytest.raises(ValueError, match="`exclude` matches no layer that may be pruned"):
        model.fit(X, Y, callbacks=[misspelt], verbose=0)


@pytest.mark.parametrize("weights", ["random", "inherit"])
@pytest.mark.parametrize("shortcuts", ["project", "couple"])
def test_plan_says_what_a_prune_would_do(weights, shortcuts):
    model = models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[8] * 17)
    prune = ADPrune(weights=weights, shortcuts=shortcuts, rule=SMALL)
    densities = activation_density(model, X, shortcuts=shortcuts)
    before = model.get_weights()
    plan = prune.plan(model, densities)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    pruned = compiled(resize(model, plan["widths"], weights, densities, shortcuts))
    entry = prune.plan(pruned, dict.fromkeys(densities, 1.0))  # nothing more to take
    assert entry["cost"] == plan["cost"]
    assert plan["ops_reduction"]["deployed"] > 1.5 < plan["ops_reduction"]["paper"]
    assert entry["ops_reduction"] == {"paper": 1.0, "deployed": 1.0}


def test_what_stays_or_is_not_exact_is_said_once():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, activation="relu", name="given")(inputs)
    x = layers.Lambda(lambda t: t, output_shape=x.shape[1:], name="mystery")(x)
    x = layers.BatchNormalization(name="late")(layers.Conv2D(6, 3, activation="relu", name="early")(x))
    x = layers.Conv2D(6, 3, activation="relu", name="last")(x)
    model = compiled(keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x))))
    prune = ADPrune(weights="inherit", verbose=0)
    with pytest.warns(UserWarning) as caught:
        model.fit(X, Y, callbacks=[prune], verbose=0)
    ours = [str(w.message) for w in caught if w.category is UserWarning and "layers" in str(w.message)]
    assert ours == [
        "These layers keep their width. 'given': layer 'mystery' (Lambda) is not a layer whose channels "
        "pruning can follow.",
        "Inherited weights are not exact for these layers. 'early': layer 'last' (Conv2D) reads its "
        "channels where no ReLU has the last word.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "kept"}, "`weights` must be one of .*Received: weights='kept'"),
        ({"shortcuts": "cut"}, "`shortcuts` must be one of .*Received: shortcuts='cut'"),
        ({"target": 1}, "`target` must be a number above 1.*=1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ADPrune(**arguments)
