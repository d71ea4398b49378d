import functools

import keras
import numpy as np
import pytest

from adprune_keras import cost, layer_widths, models, ops_reduction, params_reduction
from adprune_keras.report import paper

# Of Table I's pruned nets, by their widths: parameters and OPS reduction in the paper's count.
TABLE_I = [
    *[("cifar10_resnet18", 1, 7.27, 6.01), ("cifar10_resnet18", 2, 41.50, 23.26)],
    *[("cifar10_resnet18", 3, 196.05, 67.14), ("cifar10_vgg19", 1, 3.12, 5.57)],
    *[("cifar10_vgg19", 2, 10.27, 27.38), ("cifar100_resnet18", 1, 7.54, 4.74)],
    *[("cifar100_vgg19", 1, 3.89, 5.30), ("tinyimagenet_resnet18", 1, 10.58, 4.67)],
]
# Of ResNet18's nets on CIFAR-10, all convolutions of the deployed net.
DEPLOYED_CONVOLUTIONS = [(1, 6.97, 5.67), (2, 38.22, 21.19), (3, 166.03, 59.28)]


@functools.cache
def published(network):
    """Widths and cost of a network as published."""
    model = models.NETWORKS[network]()
    return tuple(layer_widths(model).values()), cost(model)


@pytest.mark.parametrize(("study", "net", "params", "ops"), TABLE_I)
def test_reductions_of_table_one(study, net, params, ops):
    study = paper.STUDIES[study]
    printed = study.nets[net]
    widths, baseline = published(study.network)
    pruned = cost(models.NETWORKS[study.network](widths=printed.widths))
    assert widths == study.nets[0].widths
    assert round(params_reduction(baseline, pruned), 2) == params
    assert round(ops_reduction(baseline, pruned), 2) == ops
    # as printed, but for rounding of the print (ResNet18's 196.05 stands there as 199.3, 4.74 as 5.1)
    assert params == pytest.approx(printed.params, rel=0.02)
    assert ops == pytest.approx(printed.ops, rel=0.08)


@pytest.mark.parametrize(("net", "params", "ops"), DEPLOYED_CONVOLUTIONS)
def test_deployed_reductions_of_the_convolutions(net, params, ops):
    def convolutions(counted):
        rows = [r for r in counted.rows if r.kind == "Conv2D"]
        return sum(r.params for r in rows), sum(r.macs for r in rows)

    before = convolutions(published("ResNet18")[1])
    pruned = models.ResNet18(widths=paper.STUDIES["cifar10_resnet18"].nets[net].widths)
    after = convolutions(cost(pruned))
    assert tuple(round(b / a, 2) for b, a in zip(before, after, strict=True)) == (params, ops)


@pytest.mark.parametrize(("name", "count"), [("VGG11", 8), ("VGG13", 10), ("VGG16", 13)])
def test_vgg_widths(name, count):
    assert len(models.default_widths(name)) == count
    assert layer_widths(models.NETWORKS[name](widths=[4] * count)) == dict.fromkeys(
        models.default_widths(name), 4
    )


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("VGG19", 16, ("block1_conv1", 64), ("block5_conv4", 512)),
        ("ResNet18", 17, ("stem_conv", 64), ("stage4_block2_conv2", 512)),
        ("ResNet34", 33, ("stem_conv", 64), ("stage4_block3_conv2", 512)),
        ("ResNet50", 49, ("stem_conv", 64), ("stage4_block3_conv3", 2048)),
    ],
)
def test_plans_in_the_order_of_table_one(name, count, first, last):
    widths = list(models.default_widths(name).items())
    assert (len(widths), widths[0], widths[-1]) == (count, first, last)


@pytest.mark.parametrize("name", ["VGG11", "VGG19", "ResNet18", "ResNet50"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (17, 12, 2), (28, 28, 4), (64, 64, 3), (224, 224, 3)])
def test_any_image_size(name, shape):
    narrow = dict.fromkeys(models.default_widths(name), 2)
    model = models.NETWORKS[name](input_shape=shape, classes=5, widths=narrow)
    out = keras.ops.convert_to_numpy(model(np.zeros((2, *shape), "float32"), training=False))
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
    assert layer_widths(model) == narrow


def test_vgg_drops_the_poolings_that_a_small_image_cannot_do():
    def pools(size):
        model = models.VGG19(input_shape=(size, size, 1), widths=[2] * 16)
        return [layer.name for layer in model.layers if "pool" in layer.name]

    assert pools(32) == [f"block{i}_pool" for i in range(1, 6)] + ["avg_pool"]
    assert pools(8) == ["block1_pool", "block2_pool", "block3_pool", "avg_pool"]


def test_projection_only_where_the_ends_of_a_shortcut_differ():
    def projections(model):
        return [x.name for x in model.layers if x.name.endswith("shortcut_conv")]

    strided = [f"stage{s}_block1_shortcut_conv" for s in (2, 3, 4)]
    assert projections(models.ResNet18()) == strided
    wider = models.ResNet18(widths={"stage1_block1_conv2": 40})
    assert set(projections(wider)) == {
        *strided,
        "stage1_block1_shortcut_conv",
        "stage1_block2_shortcut_conv",
    }


def test_logits_and_string_losses():
    model = models.VGG11(input_shape=(8, 8, 1), widths=[2] * 8, classifier_activation=None)
    assert model.layers[-1].name == "logits"
    model = models.VGG11(input_shape=(8, 8, 1), widths=[2] * 8)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    loss = model.evaluate(np.zeros((2, 8, 8, 1)), np.array([0, 9]), verbose=0)[0]
    np.testing.assert_allclose(loss, np.log(10), rtol=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [64] * 14}, r"VGG19 has 16 layers .* Received: 14 entries"),
        ({"widths": [0] + [64] * 15}, r"'block1_conv1' must be an int of at least 1. Received: 0"),
        ({"widths": [8.0] + [64] * 15}, r"'block1_conv1' must be an int.* Received: 8.0"),
        ({"widths": [True] + [64] * 15}, r"Received: True"),
        ({"widths": {"block9": 3}}, r"does not have: \['block9'\]. Expected names among"),
        ({"input_shape": (32, 32)}, r"three positive ints .* Received: input_shape=\(32, 32\)"),
        ({"input_shape": (None, 32, 3)}, r"three positive ints"),
        ({"classes": 0}, r"`classes` must be an int of at least 1. Received: classes=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.VGG19(**arguments)


def test_unknown_network():
    with pytest.raises(ValueError, match="Unknown network.*VGG19.*Received: VGG9"):
        models.default_widths("VGG9")


def test_numpy_ints_are_widths():
    model = models.VGG11(input_shape=(8, 8, 1), widths=list(np.full(8, 3)))
    assert isinstance(model, keras.Model)
    assert set(layer_widths(model).values()) == {3}
