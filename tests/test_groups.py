import keras
import pytest
from keras import layers
from toys import plain_cnn, sequential_cnn

from adprune_keras import layer_widths, models
from adprune_keras.groups import find_groups, is_relu


def test_layers_that_may_be_resized_in_graph_order():
    assert layer_widths(plain_cnn(8)) == {"conv1": 8, "conv2": 8, "hidden": 16}
    assert layer_widths(sequential_cnn(6)) == {"conv1": 6}


def test_outputs_keep_their_width():
    groups = {g.owner: g for g in find_groups(plain_cnn()).groups}
    assert groups["out"].fixed == "it is an output of the model"
    assert groups["conv1"].fixed is None


def test_which_relu_speaks():
    groups = {g.owner: g.relus for g in find_groups(plain_cnn()).groups}
    assert groups == {"conv1": ["relu1"], "conv2": ["conv2"], "hidden": ["hidden"], "out": []}


def test_residual_block_owner_is_the_deeper_branch():
    groups = find_groups(models.ResNet18(widths={"stage2_block1_conv2": 40}))
    group = next(g for g in groups.groups if g.owner == "stage2_block1_conv2")
    assert set(group.producers) == {"stage2_block1_conv2", "stage2_block1_shortcut_conv"}
    assert group.relus == ["stage2_block1_relu"]
    assert "stage2_block1_shortcut_conv" in groups.shortcuts()
    assert groups.adds["stage2_block1_add"].owner == "stage2_block1_conv2"


def test_identity_shortcut_leaves_each_block_its_own_width():
    owners = [g.owner for g in find_groups(models.ResNet18()).prunable()]
    assert owners == list(models.default_widths("ResNet18"))


def test_add_of_tensors_that_others_read_too_ties_them():
    inputs = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    b = layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(a)
    x = layers.Add(name="add")([a, b])
    outputs = [layers.GlobalAveragePooling2D()(t) for t in (x, b)]
    dense = [layers.Dense(2)(t) for t in outputs]
    (group,) = find_groups(keras.Model(inputs, dense)).prunable()
    assert (group.owner, sorted(group.producers)) == ("b", ["a", "b"])


def test_preactivation_relu_speaks_for_the_channels_it_reads():
    inputs = keras.Input((8, 8, 3))
    x = stem = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(name="pre")(x)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.Add(name="add")([x, stem])
    x = layers.ReLU(name="post")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    groups = {g.owner: (g.relus, g.fixed) for g in find_groups(model).groups}
    assert groups["stem"] == (["pre"], None)
    assert groups["conv"] == (["post"], None)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.Conv2D(4, 3, groups=2, name="odd"), "'odd' (Conv2D) is a grouped convolution"),
        (layers.Reshape((-1,), name="odd"), "'odd' (Reshape) is not a layer whose channels"),
        (layers.LayerNormalization(axis=1, name="odd"), "'odd' (LayerNormalization)"),
        (layers.Activation("softmax", name="odd"), "'odd' (Activation)"),
    ],
)
def test_what_it_does_not_know_keeps_its_width(layer, reason):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="before")(inputs)
    x = layers.Flatten()(layer(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    group = next(g for g in find_groups(model).groups if g.owner == "before")
    assert reason in group.fixed


def test_shared_layer_keeps_its_width():
    inputs = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    x = shared(shared(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert layer_widths(model) == {}
    assert "is called more than once" in find_groups(model).groups[0].fixed


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (layers.ReLU(), True),
        (layers.ReLU(max_value=6), True),
        (layers.ReLU(negative_slope=0.1), False),
        (layers.Activation("relu6"), True),
        (layers.Activation("gelu"), False),
        (layers.Conv2D(1, 1, activation="relu"), True),
        (layers.Conv2D(1, 1), False),
    ],
)
def test_is_relu(op, expected):
    assert is_relu(op) is expected


def test_raw_relu_op_speaks():
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.relu(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    assert layer_widths(model) == {"conv": 4}


def test_tracing_leaves_the_model_alone():
    model = plain_cnn()
    before = [layer.output for layer in model.layers]
    find_groups(model)
    assert all(layer.output is t for layer, t in zip(model.layers, before, strict=True))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("model", [Subclassed(), keras.Sequential([layers.Dense(2)])])
def test_models_without_a_graph(model):
    with pytest.raises(ValueError, match=r"Only Functional models.*Received: model="):
        layer_widths(model)
