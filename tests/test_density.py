import keras
import numpy as np
import pytest
from keras import layers
from toys import compiled, images, plain_cnn, sequential_cnn, two_channels

from adprune_keras import ADPrune, activation_density
from adprune_keras.density.auxiliary import _stride, density_model
from adprune_keras.density.from_data import activation_maps
from adprune_keras.density.numbers import merge

# Four images; of their 16 pixels 11 are positive, 4 negative, 1 zero.
PIXELS = np.array([[1, 2, 3, -4], [-1, 5, 6, 0], [1, 1, 1, 1], [-1, -2, 3, 4]], "float32").reshape(
    4, 2, 2, 1
)


def test_density_by_hand():
    density = activation_density(two_channels(), PIXELS)
    np.testing.assert_allclose(density["conv"], [11 / 16, 4 / 16])


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_uneven_batches_weigh_by_their_size(batch_size):
    density = activation_density(two_channels(), PIXELS, batch_size=batch_size)
    np.testing.assert_allclose(density["conv"], [11 / 16, 4 / 16], rtol=1e-6)


def test_any_kind_of_data():
    labels = np.zeros(4)
    batches = [(PIXELS[:3], labels[:3]), (PIXELS[3:], labels[3:])]

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return batches[i]

    for data in (batches, iter(batches), Data(), [PIXELS[:3], PIXELS[3:]]):
        np.testing.assert_allclose(
            activation_density(two_channels(), data)["conv"], [11 / 16, 4 / 16], rtol=1e-6
        )
    with pytest.raises(ValueError, match="no batch to measure"):
        activation_density(two_channels(), [])


def test_measured_in_training_by_hand():
    """With a learning rate of 0 the training pass sees the same activations."""
    model, prune = compiled(two_channels(), learning_rate=0.0), ADPrune(verbose=0)
    history = model.fit(PIXELS, np.zeros(4), batch_size=3, epochs=2, callbacks=[prune], verbose=0)
    np.testing.assert_allclose(history.history["activation_density"], [15 / 32] * 2, rtol=1e-6)
    np.testing.assert_allclose(
        prune.record[0]["channel_densities"]["conv"], [11 / 16, 4 / 16], rtol=1e-6
    )
    np.testing.assert_allclose(prune.record[0]["densities"]["conv"], [15 / 32] * 2, rtol=1e-6)


def test_half_precision_does_not_lose_count():
    """1600 activations in 100 batches: a bfloat16 sum would stand still at 256."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, prune = compiled(two_channels(), learning_rate=0.0), ADPrune(verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    data = np.tile(PIXELS, (100, 1, 1, 1))
    model.fit(data, np.zeros(400), batch_size=4, callbacks=[prune], verbose=0)
    found = prune.record[0]["channel_densities"]["conv"]
    np.testing.assert_allclose(found, [11 / 16, 4 / 16], rtol=1e-6)


def test_validation_and_predictions_are_not_counted():
    model, prune = compiled(two_channels(), learning_rate=0.0), ADPrune(verbose=0)
    other = (-np.abs(PIXELS) - 1, np.zeros(4))
    history = model.fit(
        PIXELS, np.zeros(4), validation_data=other, epochs=2, callbacks=[prune], verbose=0
    )
    np.testing.assert_allclose(history.history["activation_density"], [15 / 32] * 2, rtol=1e-6)


def test_training_forward_pass_uses_batch_statistics():
    """Behind a BN that centres each batch half of a symmetric input is positive, in training only."""
    inputs = keras.Input((2, 2, 1))
    x = layers.BatchNormalization(name="bn")(inputs)
    x = layers.ReLU(name="relu")(layers.Conv2D(1, 1, kernel_initializer="ones", name="conv")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1, activation="relu", name="last")(x))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    data = np.array([5.0, 6, 8, 9], "float32").reshape(1, 2, 2, 1)
    assert activation_density(model, data)["conv"] == 1
    prune = ADPrune(verbose=0)
    compiled(model, learning_rate=0.0).fit(data, np.zeros(1), callbacks=[prune], verbose=0)
    assert prune.record[0]["densities"]["conv"] == [0.5]


def test_total_weighs_layers_by_their_activations():
    parts = density_model(plain_cnn(2))[1]
    assert [(*p.owners, p.channels) for p in parts] == [("conv1", 2), ("conv2", 2), ("hidden", 4)]
    sums = [*(8.0, 2.0, 10.0), *(0.0, 0.0, 4.0), *(1.0, 1.0, 1.0, 1.0, 1.0)]
    density = merge(parts, np.array(sums))
    np.testing.assert_allclose(density.channels["conv1"], [0.8, 0.2])
    assert density.layers == {"conv1": 0.5, "conv2": 0.0, "hidden": 1.0}
    assert density.total == (10 + 0 + 4) / (20 + 8 + 4)


def test_relu_on_joined_channels_counts_for_each_layer():
    """A ReLU on a concatenation of two maps, one of them seen by a second ReLU as well."""
    inputs = keras.Input((1, 2, 1))

    def conv(name, values):
        init = keras.initializers.Constant(np.array(values, "float32").reshape(1, 1, 1, -1))
        return layers.Conv2D(len(values), 1, use_bias=False, kernel_initializer=init, name=name)(inputs)

    a, b = conv("a", [1.0, -1.0]), conv("b", [2.0])
    both = layers.ReLU(name="both")(layers.Concatenate()([b, a]))
    again = layers.ReLU(name="again")(layers.Lambda(lambda x: x, output_shape=(1, 2, 1))(inputs))
    outputs = [layers.Dense(2)(layers.Flatten()(t)) for t in (both, layers.ReLU()(a), again)]
    found = activation_density(keras.Model(inputs, outputs), np.array([3.0, -2.0]).reshape(1, 1, 2, 1))
    assert {k: v.tolist() for k, v in found.items()} == {"b": [0.5], "a": [0.5, 0.5], "again": [0.5]}


def test_nested_and_shared_relus_are_measured_at_each_call():
    """x -> relu twice inside a model that is called twice: the second call sees no negative value."""
    inner_input = keras.Input((2, 2, 1))
    relu = layers.ReLU(name="relu")
    inner = keras.Model(inner_input, relu(layers.Conv2D(1, 1, name="conv")(inner_input)), name="inner")
    inner.get_layer("conv").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inner(inner(inputs)))))
    data = np.array([1.0, 2.0, -1.0, -2.0]).reshape(1, 2, 2, 1)
    assert activation_density(model, data)["inner/conv"] == [0.5]
    prune = ADPrune(verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    with pytest.raises(ValueError, match="No layer of model"):
        model.fit(data, np.zeros(1), callbacks=[prune], verbose=0)


@pytest.mark.parametrize(
    ("sizes", "places", "stride"),
    [
        ((32, 32), None, 1),
        ((32, 32), 16, 65),  # 64 would look at one column only
        ((32, 32), 2000, 1),
        ((4, 4), 16, 1),
        ((4, 4), 8, 3),
        ((7, 7), 16, 3),
        ((4, 4), 1, 15),  # 17 is more than there are
        ((28, 28), 16, 51),  # 49 and 50 share a factor with 28
        ((None, None), 16, 1),
        ((), 16, 1),  # behind a Dense layer
    ],
)
def test_stride(sizes, places, stride):
    assert _stride(sizes, places) == stride


def test_some_places_of_each_map_are_counted():
    """Four images of 4 x 4, one place in three: each place is looked at in some image."""
    inputs = keras.Input((4, 4, 1))
    conv = layers.Conv2D(2, 1, kernel_initializer=keras.initializers.Constant([[[[1.0, -1.0]]]]))
    outputs = layers.Dense(2)(layers.Flatten()(layers.ReLU()(conv(inputs))))
    aux, parts = density_model(keras.Model(inputs, outputs), places=8)
    data = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype("float32")
    seen = data.reshape(-1)[:63:3]
    assert len({i % 16 for i in range(0, 63, 3)}) == 16
    step = aux.predict_on_batch(data)["positives"]
    np.testing.assert_array_equal(step[0], [np.sum(seen > 0), np.sum(seen < 0), len(seen)])
    assert merge(parts, step[0]).total == 0.5


def test_counting_some_places_weighs_layers_as_counting_all_does():
    parts = density_model(plain_cnn(2), places=8)[1]
    assert [part.stride for part in parts] == [9, 1, 1]
    sums = [*(8.0, 2.0, 10.0), *(0.0, 0.0, 4.0), *(1.0, 1.0, 1.0, 1.0, 1.0)]
    density = merge(parts, np.array(sums))
    assert density.layers == {"conv1": 0.5, "conv2": 0.0, "hidden": 1.0}
    assert density.total == (9 * 10 + 0 + 4) / (9 * 20 + 8 + 4)


def test_no_batch_is_nan():
    parts = density_model(two_channels())[1]
    assert np.isnan(merge(parts, np.zeros(3)).total)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="in torch the sign of NaN is 0")
def test_nan_activations_show():
    data = PIXELS.copy()
    data[0, 0, 0, 0] = np.nan
    assert np.isnan(activation_density(two_channels(), data)["conv"]).any()


def test_auxiliary_model_leaves_the_model_alone():
    for model in (plain_cnn(), sequential_cnn()):
        before = [layer.name for layer in model.layers]
        x = images(3)[0]
        expected = model.predict_on_batch(x)
        aux, _ = density_model(model)
        np.testing.assert_allclose(aux.predict_on_batch(x)["outputs"], expected, rtol=1e-6)
        assert [layer.name for layer in model.layers] == before
        assert model.layers[0].output is not None


def test_model_without_relu():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3, activation="gelu"), layers.Flatten()]
    )
    with pytest.raises(ValueError, match=r"has no ReLU.*Received: activations \['gelu'\]"):
        activation_density(model, images(3)[0])


def test_activation_maps_are_the_mean_over_channels_of_each_relu_with_an_image():
    """Fig. 5, in a nested model called twice too: the first call's map stands for both."""
    inner = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(3, 1), layers.ReLU()], name="inner")
    inputs = keras.Input((4, 4, 3))
    x = layers.ReLU(name="first")(inputs)
    y = inner(inner(x))
    outputs = layers.Dense(2, activation="relu", name="vector")(layers.Flatten()(y))
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype("float32")
    maps = activation_maps(model, images)
    positive = np.maximum(images, 0)
    assert list(maps) == ["first", f"inner/{inner.layers[-1].name}"]
    np.testing.assert_allclose(maps["first"], positive.mean(axis=-1), rtol=1e-5)
    once = keras.ops.convert_to_numpy(inner(positive)).mean(axis=-1)
    np.testing.assert_allclose(list(maps.values())[1], once, rtol=1e-4, atol=1e-6)


def test_activation_maps_of_a_model_without_a_relu():
    inputs = keras.Input((4, 4, 3))
    assert activation_maps(keras.Model(inputs, layers.Conv2D(2, 1)(inputs)), np.ones((1, 4, 4, 3))) == {}
