import keras
import pytest
from keras import layers

from adprune_keras import (
    cost,
    models,
    ops_reduction,
    params_reduction,
    training_complexity,
)


def one_of_each():
    """A 3x3 convolution with BN, a projected shortcut, one Dense: counted by hand below."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    y = layers.Conv2D(7, 3, padding="same", use_bias=False, name="main")(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU()(y)
    y = layers.Conv2D(7, 3, padding="same", name="deep")(y)
    s = layers.Conv2D(7, 1, use_bias=False, name="side")(x)
    x = layers.ReLU()(layers.Add()([y, s]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2, name="dense")(x))


def test_counted_by_hand():
    counted = cost(one_of_each())
    macs = {r.layer: r.macs for r in counted.rows}
    assert macs == {
        "conv": 4 * 4 * 9 * 3 * 5,
        "main": 4 * 4 * 9 * 5 * 7,
        "deep": 4 * 4 * 9 * 7 * 7,
        "side": 4 * 4 * 5 * 7,
        "dense": 7 * 2,
    }
    kernels = 9 * 3 * 5 + 9 * 5 * 7 + 9 * 7 * 7
    assert counted.paper.params == kernels
    assert counted.paper.macs == macs["conv"] + macs["main"] + macs["deep"]
    # side has neither bias nor BN, so nothing is added to it
    assert counted.deployed.params == kernels + 5 * 7 + 7 * 2 + (5 + 7 + 7 + 2)
    assert counted.deployed.macs == sum(macs.values())
    assert [r.layer for r in counted.rows if r.owns_width] == ["conv", "main", "deep"]
    of = counted.by_layer()
    assert (
        next(iter(of)) == "conv"
        and {name: row["macs"] for name, row in of.items() if row["macs"]} == macs
    )
    assert sum(row["params"] + row["bias"] for row in of.values()) == counted.deployed.params
    assert sum(row["params"] for row in of.values() if row["owns_width"]) == kernels


def test_bn_without_a_layer_to_fold_into_keeps_scale_and_offset():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="conv")(inputs)
    y = layers.BatchNormalization(name="bn")(x)  # x has a second reader: BN cannot be folded into it
    model = keras.Model(inputs, layers.Add()([x, y]))
    assert cost(model).deployed.params == 3 * 6 + 6 + 2 * 6


def test_depthwise_grouped_and_transposed():
    inputs = keras.Input((8, 8, 6))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(inputs)
    x = layers.Conv2D(12, 1, groups=3, name="grouped")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, name="transposed")(x)
    macs = {r.layer: r.macs for r in cost(keras.Model(inputs, x)).rows}
    assert macs == {
        "depthwise": 64 * 9 * 6 * 2,
        "grouped": 64 * 4 * 12,
        "transposed": 64 * 4 * 12 * 5,
    }


def test_shared_layer_computes_twice_and_is_stored_once():
    shared = layers.Conv2D(3, 1, use_bias=False, name="shared")
    inputs = keras.Input((4, 4, 3))
    counted = cost(keras.Model(inputs, shared(shared(inputs))))
    assert (counted.deployed.macs, counted.deployed.params) == (2 * 16 * 9, 9)
    assert counted.by_layer()["shared"] == {"macs": 288, "params": 9, "bias": 0, "owns_width": True}


def test_reductions_from_models_or_costs():
    dense, half = models.VGG11(widths=[8] * 8), models.VGG11(widths=[4] * 8)
    first = 32 * 32 * 9 * 3
    expected = cost(dense).paper.macs / cost(half).paper.macs
    assert ops_reduction(dense, half) == ops_reduction(cost(dense), cost(half)) == expected
    assert cost(dense).paper.macs - first * 8 == 4 * (cost(half).paper.macs - first * 4)
    assert params_reduction(dense, half, count="deployed") != params_reduction(dense, half)


@pytest.mark.parametrize(
    ("nets", "published"),
    [
        ([(1, 100), (6.0, 210)], 135.0),
        ([(1, 100), (6.0, 70), (23.2, 210)], 120.8),
        ([(1, 25), (5.1, 210)], 66.2),
        ([(1, 25), (5.3, 210)], 64.6),
        ([(1, 25), (4.7, 60)], 37.7),
        ([(1, 100), (5.6, 70), (27.4, 210)], 120.2),  # printed as VGG-19's net1
    ],
)
def test_training_complexity_of_table_two(nets, published):
    assert training_complexity(nets) == pytest.approx(published, abs=0.1)


def test_training_memory_complexity():
    assert training_complexity([(1, 100), (7.3, 70), (41.2, 210)]) == pytest.approx(114.7, abs=0.1)


def test_bad_input():
    model = models.VGG11(widths=[4] * 8)
    with pytest.raises(ValueError, match="`count` must be one of .* Received: count='flops'"):
        ops_reduction(model, model, count="flops")
    with pytest.raises(ValueError, match=r"reduction > 0, epochs >= 0\). Received: \(0, 5\)"):
        training_complexity([(0, 5)])
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="MACs of layer 'conv' depend on the image size"):
        cost(keras.Model(inputs, layers.Conv2D(2, 1, name="conv")(inputs)))
    dense = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="no macs to count"):
        ops_reduction(dense, dense)


class Mixing(layers.Layer):
    """A layer of somebody's own, with a matrix in it."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]), name="matrix")

    def call(self, x):
        return x @ self.matrix


def test_layers_it_cannot_count_are_refused():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, Mixing(name="odd")(layers.Conv2D(4, 3)(inputs)))
    with pytest.raises(ValueError, match=r"cannot count layer 'odd' \(Mixing\)"):
        cost(model)


@pytest.mark.parametrize(
    ("layer", "macs", "params"),
    [
        (layers.SeparableConv2D(4, 3), 6 * 6 * (9 * 3 + 3 * 4), 9 * 3 + 3 * 4 + 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 9 * 6, 9 * 6 + 6),
        (layers.Conv2D(6, 3, groups=3, use_bias=False), 6 * 6 * 9 * 6, 9 * 6),
        (layers.Conv2DTranspose(4, 3, strides=2), 8 * 8 * 9 * 3 * 4, 9 * 3 * 4 + 4),
        (layers.PReLU(shared_axes=[1, 2]), 0, 3),
        (layers.GroupNormalization(3), 0, 6),
    ],
)
def test_layers_of_all_kinds_by_hand(layer, macs, params):
    inputs = keras.Input((8, 8, 3))
    counted = cost(keras.Model(inputs, layer(inputs)))
    assert (counted.deployed.macs, counted.deployed.params) == (macs, params)
