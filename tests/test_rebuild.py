import keras
import numpy as np
import pytest
from keras import layers
from toys import images, plain_cnn, sequential_cnn

from adprune_keras import layer_widths, models, resize

NET1 = [34, 29, 41, 25, 33, 58, 78, 27, 65, 71, 83, 46, 69, 120, 191, 219, 288]


def shapes(model):
    return {v.path.split("/", 1)[-1]: tuple(v.shape) for v in model.weights}


def test_resized_resnet_is_what_the_factory_builds():
    widths = dict(zip(models.default_widths("ResNet18"), NET1, strict=True))
    rebuilt, built = resize(models.ResNet18(), widths), models.ResNet18(widths=widths)
    assert {x.name: x.get_config() for x in rebuilt.layers if "_bn" in x.name} == {
        x.name: x.get_config() for x in built.layers if "_bn" in x.name
    }
    assert {x.name: [tuple(w.shape) for w in x.weights] for x in rebuilt.layers} == {
        x.name: [tuple(w.shape) for w in x.weights] for x in built.layers
    }


def test_resized_twice():
    once = resize(models.ResNet18(widths=[8] * 17), {"stage1_block1_conv2": 6, "stem_conv": 5})
    twice = resize(once, {"stage1_block1_conv2": 4})
    assert twice.get_layer("stage1_block1_shortcut_conv").filters == 4
    assert [x.name for x in twice.layers] == [x.name for x in once.layers]
    assert layer_widths(twice)["stage1_block1_conv2"] == 4


def test_the_model_is_untouched():
    model = plain_cnn()
    before, config = model.get_weights(), model.get_config()
    outputs = [layer.output for layer in model.layers]
    resize(model, {"conv1": 3})
    assert model.get_config() == config
    assert all(layer.output is t for layer, t in zip(model.layers, outputs, strict=True))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_widths_flow_downstream():
    rebuilt = resize(plain_cnn(8), {"conv1": 3, "hidden": 5})
    assert layer_widths(rebuilt) == {"conv1": 3, "conv2": 8, "hidden": 5}
    assert rebuilt.get_layer("conv2").kernel.shape == (3, 3, 3, 8)
    assert rebuilt.get_layer("out").kernel.shape == (5, 4)
    assert rebuilt.predict_on_batch(images(2)[0]).shape == (2, 4)
    assert [x.name for x in rebuilt.layers] == [x.name for x in plain_cnn().layers]


def test_sequential_stays_sequential_and_flatten_follows():
    rebuilt = resize(sequential_cnn(8), {"conv1": 3})
    assert isinstance(rebuilt, keras.Sequential)
    assert rebuilt.get_layer("out").kernel.shape == (27, 4)
    assert rebuilt.input_shape == (None, 8, 8, 1)


def test_seed_makes_weights_repeatable_whatever_the_global_state():
    keras.utils.set_random_seed(1)
    first = resize(plain_cnn(), {"conv1": 4}, seed=7).get_weights()
    keras.utils.set_random_seed(2)
    second = resize(plain_cnn(), {"conv1": 4}, seed=7).get_weights()
    other = resize(plain_cnn(), {"conv1": 4}, seed=8).get_weights()
    free = resize(plain_cnn(), {"conv1": 4}).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], free[0])


def test_layers_of_one_seed_differ_from_each_other():
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="a")(inputs)
    x = layers.Dense(4, activation="relu", name="b")(x)
    rebuilt = resize(keras.Model(inputs, layers.Dense(4)(x)), {}, seed=0)
    assert not np.array_equal(rebuilt.get_layer("a").kernel, rebuilt.get_layer("b").kernel)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_projection_of_any_rank(rank):
    conv = {1: layers.Dense, 2: layers.Conv1D, 3: layers.Conv2D, 4: layers.Conv3D}[rank]

    def block(name, x):
        args = (4,) if rank == 1 else (4, 1)
        return conv(*args, activation="relu", name=name)(x)

    inputs = keras.Input((*([2] * (rank - 1)), 4), name="image")
    stem = block("stem", inputs)
    x = layers.Add(name="sum")([block("conv", stem), stem])
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    rebuilt = resize(model, {"conv": 3})
    assert isinstance(rebuilt.get_layer("sum_shortcut_conv"), conv)
    assert rebuilt.get_layer("sum").output.shape[-1] == 3
    assert rebuilt.predict_on_batch(np.zeros((2, *inputs.shape[1:]), "float32")).shape == (2, 2)
    assert layer_widths(resize(rebuilt, {"stem": 2})) == {"stem": 2, "conv": 3}


def test_names_of_projections_never_clash():
    inputs = keras.Input((4, 4, 2))
    stem = layers.Conv2D(4, 1, activation="relu", name="b_shortcut_conv")(inputs)
    x = layers.Conv2D(4, 1, activation="relu", name="conv")(stem)
    x = layers.Add(name="b_add")([x, stem])
    rebuilt = resize(keras.Model(inputs, layers.Flatten()(layers.Conv2D(1, 1)(x))), {"conv": 3})
    assert rebuilt.get_layer("b_shortcut2_conv").filters == 3


def test_projection_follows_the_models_own_batch_norm():
    model = resize(models.ResNet18(widths=[8] * 17), {"stem_conv": 5})
    norm = model.get_layer("stage1_block1_shortcut_bn")
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        (
            {"conv9": 3},
            r"names 'conv9'.* Expected names among \['conv1', 'conv2', 'hidden', 'out'\]",
        ),
        ({"conv1": 0}, "'conv1' must be an int of at least 1. Received: 0"),
        ({"conv1": 2.0}, "'conv1' must be an int of at least 1. Received: 2.0"),
        ({"out": 3}, "'out' must keep its width of 4: it is an output of the model"),
    ],
)
def test_bad_widths(widths, message):
    with pytest.raises(ValueError, match=message):
        resize(plain_cnn(), widths)


def test_projection_computes_in_the_precision_of_its_add():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.ResNet18(widths=[8] * 17)
    finally:
        keras.config.set_dtype_policy("float32")
    rebuilt = resize(model, {"stem_conv": 5})
    for part in ("conv", "bn"):
        layer = rebuilt.get_layer(f"stage1_block1_shortcut_{part}")
        assert layer.dtype_policy.name == "mixed_bfloat16"
