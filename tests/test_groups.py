import keras
import pytest
from keras import layers
from toys import compiled, images, plain_cnn, sequential_cnn

from adprune_keras import ADPrune, layer_widths, models
from adprune_keras.counting.count import cost
from adprune_keras.graph import groups as groups_module
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.kinds import is_relu
from adprune_keras.prune.planning import assumed_densities, plan


def test_layers_that_may_be_resized_in_graph_order():
    assert layer_widths(plain_cnn(8)) == {"conv1": 8, "conv2": 8, "hidden": 16}
    assert layer_widths(sequential_cnn(6)) == {"conv1": 6}


def test_outputs_keep_their_width():
    groups = {g.owner: g for g in find_groups(plain_cnn()).groups}
    assert groups["out"].fixed == "it is an output of the model"
    assert groups["conv1"].fixed is None


def test_which_relu_follows():
    groups = {g.owner: g.relus for g in find_groups(plain_cnn()).groups}
    assert groups == {"conv1": ["relu1"], "conv2": ["conv2"], "hidden": ["hidden"], "out": []}


def test_residual_block_owner_is_the_deeper_branch():
    groups = find_groups(models.ResNet18(widths={"stage2_block1_conv2": 40}))
    group = next(g for g in groups.groups if g.owner == "stage2_block1_conv2")
    assert set(group.producers) == {"stage2_block1_conv2", "stage2_block1_shortcut_conv"}
    # the next block reads it too, but has a width of its own
    assert group.relus == ["stage2_block1_relu"]


def test_identity_shortcut_leaves_each_block_its_own_width():
    owners = [g.owner for g in find_groups(models.ResNet18()).prunable()]
    assert owners == list(models.default_widths("ResNet18"))


def block():
    """Two convolutions on each other and an Add around the second."""
    inputs = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    b = layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(a)
    x = layers.Add(name="add")([a, b])
    return keras.Model(inputs, layers.Dense(2, name="out")(layers.GlobalAveragePooling2D()(x)))


def test_coupled_shortcut_has_one_width():
    assert layer_widths(block()) == {"a": 4, "b": 4}
    (group,) = find_groups(block(), "couple").prunable()
    assert (group.owner, group.producers, group.relus) == ("b", ["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="`shortcuts` must be one of .*Received: shortcuts='tie'"):
        layer_widths(block(), shortcuts="tie")


def test_add_of_a_concatenation_follows_its_parts():
    inputs = keras.Input((8, 8, 3))
    a, b, c = (layers.Conv2D(n, 1, name=name)(inputs) for name, n in [("a", 2), ("b", 3), ("c", 5)])
    x = layers.ReLU(name="relu")(layers.Add()([layers.Concatenate()([a, b]), c]))
    groups = find_groups(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    found = {g.owner: (g.width, g.producers, g.relus) for g in groups.prunable()}
    assert found == {"a": (2, ["a", "c"], ["relu"]), "b": (3, ["b", "c"], ["relu"])}


def test_sums_that_cut_across_layers_keep_their_widths():
    inputs = keras.Input((8, 8, 3))
    a, b, c, d = (
        layers.Conv2D(n, 1, name=name)(inputs) for name, n in zip("abcd", (2, 4, 3, 3), strict=True)
    )
    x = layers.Add()([layers.Concatenate()([a, b]), layers.Concatenate()([c, d])])
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))
    by_producers = {tuple(sorted(g.producers)): g for g in find_groups(model).groups}
    assert by_producers["b", "c"].fixed.startswith("its channels are tied to some of ")
    assert layer_widths(model) == {"a": 2, "d": 3}


def test_gate_follows_the_map_that_it_scales():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    s = layers.Dense(2, activation="relu", name="squeeze")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    s = layers.Dense(6, activation="sigmoid", name="gate")(s)
    x = layers.Multiply()([x, s])
    groups = find_groups(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    assert {g.owner: g.producers for g in groups.prunable()} == {
        "conv": ["conv", "gate"],
        "squeeze": ["squeeze"],
    }


def test_preactivation_relu_follows_the_channels_it_reads():
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
        (layers.Reshape((6, 6, 2, 2), name="odd"), "'odd' (Reshape) takes the channels' axis apart"),
        (layers.BatchNormalization(axis=1, name="odd"), "'odd' (BatchNormalization) normalises another"),
        (layers.Softmax(name="odd"), "'odd' (Softmax) is not a layer whose channels"),
        (layers.Activation("softmax", name="odd"), "activation of layer 'odd' (Activation) may mix"),
        (
            layers.Activation(lambda x: x[..., ::-1], name="odd"),
            "activation of layer 'odd' (Activation)",
        ),
        (
            layers.Lambda(lambda x: x[..., ::-1], output_shape=(6, 6, 4), name="odd"),
            "'odd' (Lambda) is not a layer whose channels",
        ),
        (layers.Conv2D(4, 3, groups=2, name="odd", data_format="channels_first"), "along another axis"),
    ],
)
def test_what_it_does_not_know_keeps_its_width(layer, reason):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="before")(inputs)
    x = layers.Flatten()(layer(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    group = next(g for g in find_groups(model).groups if g.owner == "before")
    assert reason in group.fixed


def test_shared_layer_reads_and_makes_the_same_channels():
    inputs = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    x = shared(shared(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    (group,) = find_groups(model).prunable()
    assert (group.width, group.producers, group.relus) == (
        4,
        ["first", "shared"],
        ["first", "shared", "shared"],
    )


def test_grouped_layers_keep_equal_parts():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(12, 3, name="conv")(inputs)
    x = layers.ReLU()(layers.GroupNormalization(4)(x))
    x = layers.Conv2D(6, 3, groups=3, activation="relu", name="grouped")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert {g.owner: g.parts for g in find_groups(model).prunable()} == {"grouped": 3}
    by_name = {g.owner: g for g in find_groups(model).groups}
    assert by_name["conv"].fixed == "layer 'grouped' (Conv2D) has a part for each of its channels"


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


def test_raw_relu_op_is_followed():
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.relu(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    assert layer_widths(model) == {"conv": 4}


def test_tracing_leaves_the_model_alone():
    model = plain_cnn()
    before = [layer.output for layer in model.layers]
    find_groups(model)
    assert all(layer.output is t for layer, t in zip(model.layers, before, strict=True))


@pytest.fixture
def traced(monkeypatch):
    """A list that gets the name of each model that is traced."""
    names, trace = [], groups_module.trace

    def counted(model):
        names.append(model.name)
        return trace(model)

    monkeypatch.setattr(groups_module, "trace", counted)
    return names


@pytest.mark.parametrize("shortcuts", ["project", "couple"])
def test_each_state_of_a_model_is_traced_once_in_a_prune(traced, shortcuts):
    model, prune = compiled(plain_cnn()), ADPrune(schedule=[1], shortcuts=shortcuts, verbose=0)
    model.fit(*images(), epochs=2, verbose=0, callbacks=[prune])
    assert [entry["outcome"] for entry in prune.record] == ["pruned", "final"]
    assert len(traced) == 2  # the dense net and the pruned one


@pytest.mark.parametrize("shortcuts", ["project", "couple"])
def test_a_plan_traces_once_or_not_at_all(traced, shortcuts):
    model, prune = residual(), ADPrune(shortcuts=shortcuts)
    groups = find_groups(model, shortcuts)
    densities = assumed_densities(groups, 0.5)
    traced.clear()
    plan(model, prune, densities, groups)
    assert traced == []
    plan(model, prune, densities)
    assert len(traced) == 1
    prune.plan(model, densities)
    assert len(traced) == 2


def test_both_readings_of_shortcuts_count_the_same():
    model = residual()
    both = [find_groups(model, shortcuts) for shortcuts in ("project", "couple")]
    assert len(both[0].groups) > len(both[1].groups)
    assert both[0].paper_owners == both[1].paper_owners == {g.owner for g in both[0].groups}
    assert cost(model, both[0]) == cost(model, both[1]) == cost(model)


def residual():
    return models.ResNet18(input_shape=(16, 16, 3), widths=[8] * len(models.default_widths("ResNet18")))


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
