"""Trainings that cannot be saved: they end, nothing is pruned, and the first cause is named."""

import warnings

import keras
import numpy as np
import pytest
from toys import compiled, images, plain_cnn, two_channels

from adprune_keras import ADPrune, WidthRule, layer_widths
from adprune_keras.density.numbers import Density
from adprune_keras.live.meter import Meter
from adprune_keras.prune import finite

NAN = float("nan")
BACKEND = keras.backend.backend()


def test_all_is_finite():
    model = two_channels()
    assert finite.find(model, 0.5, {"conv": 0.0}) is None
    assert finite.find(model, None) is None
    assert finite.find(model, None, {"conv": 1.0}) is None


@pytest.mark.parametrize(
    ("loss", "densities", "message"),
    [
        (
            NAN,
            {"a": 0.5, "b": NAN, "c": NAN},
            "the loss is nan, and layer 'b' is the first whose AE is not",
        ),
        (0.5, {"a": NAN, "b": 0.5}, "the loss is 0.5, and layer 'a' is the first"),
        (NAN, {"a": NAN}, "the loss is nan, and layer 'a'"),
        (None, {"a": NAN, "b": 0.5}, "layer 'a' is the first whose AE is not finite. Lower"),
        (NAN, {"a": 0.5}, "the loss is nan, and all AE and weights are finite. Lower the learning rate"),
        (float("-inf"), None, "the loss is -inf, and all AE and weights are finite"),
        (0.0, {"a": NAN}, "no batch was trained in it"),
        (None, {"a": NAN, "b": NAN}, "no batch was trained in it. Give data with at least one batch"),
    ],
)
def test_what_is_not_finite(loss, densities, message):
    assert finite.find(two_channels(), loss, densities).startswith(message)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_first_weight_that_is_not_finite(value):
    model = plain_cnn()
    for name in ("bn1", "out"):
        weights = model.get_layer(name).get_weights()
        weights[-1][1] = value  # moving variance; bias
        model.get_layer(name).set_weights(weights)
    found = finite.find(model, 0.5, {"conv1": 0.5})
    assert found.startswith("the loss is 0.5, and 'bn1/moving_variance' is the first weight that is not")


def failed_fit(x, y, model=None, **settings):
    """Fit with a prune planned after the second epoch; return model, callback, history and message."""
    model = model or compiled(plain_cnn())
    prune = ADPrune(schedule=[2], rule=WidthRule(min_width=2), verbose=0, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[prune])
    messages = [str(w.message) for w in caught if "Training failed" in str(w.message)]
    assert len(messages) == 1
    return model, prune, history, messages[0]


@pytest.mark.parametrize("value", [NAN, np.inf])
def test_images_that_are_not_finite_end_training(value):
    x, y = images(40)
    x[3, 0, 0] = value
    model, prune, history, message = failed_fit(x, y)
    assert len(history.epoch) == 1
    (entry,) = prune.record
    assert (entry["outcome"], entry["epochs"], entry["widths"]) == (
        "failed",
        1,
        layer_widths(plain_cnn()),
    )
    assert message == f"Training {entry['reason']}"
    # TensorFlow's ReLU and pooling on a CPU can hide a NaN from the loss for an epoch; for PyTorch NaN
    # has the sign 0, so that there it is seen in the weights alone.
    seen = (
        "'conv1/kernel' is the first weight that is"
        if BACKEND == "torch"
        else ("layer 'conv1' is the first whose AE is")
    )
    assert message.startswith("Training failed in epoch 1: the loss is ")
    assert f", and {seen} not finite. Lower the learning rate" in message
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert len(model.variables) == len(compiled(plain_cnn()).variables)  # measuring has ended


def test_loss_that_explodes_ends_training():
    _, prune, _, message = failed_fit(*images(40), model=compiled(plain_cnn(), learning_rate=1e30))
    assert " is the first " in message
    assert prune.record[-1]["outcome"] == "failed"


def test_failure_at_the_epoch_of_a_prune_prunes_nothing(monkeypatch):
    """AE is finite in the first epoch and NaN in the second, at whose end a prune is due."""
    values = iter([0.5, NAN])

    def read(meter):
        owners = {name: width for p in meter.parts for name, (*_, width) in p.owners.items()}
        value = next(values)
        return Density({name: np.full(width, value) for name, width in owners.items()}, value)

    monkeypatch.setattr(Meter, "read", read)
    model, prune, history, message = failed_fit(*images(40))
    assert len(history.epoch) == 2
    assert layer_widths(model) == layer_widths(plain_cnn())
    assert [(e["outcome"], e["epochs"]) for e in prune.record] == [("failed", 2)]
    assert message.startswith("Training failed in epoch 2: ")
    assert "layer 'conv1' is the first whose AE is not finite" in message


def test_next_fit_after_a_failure_is_a_new_one():
    x, y = images(40)
    bad = x.copy()
    bad[0] = NAN
    _, prune, *_ = failed_fit(bad, y)
    model = compiled(plain_cnn())
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[prune])
    assert [e["outcome"] for e in prune.record] == ["pruned", "final"]


@pytest.mark.skipif(BACKEND == "jax", reason="Keras itself raises StopIteration")
def test_epoch_without_a_batch():
    x, y = images(40)

    def once():
        yield x[:16], y[:16]

    model, prune = compiled(plain_cnn()), ADPrune(verbose=0)
    with pytest.warns(UserWarning) as caught:
        history = model.fit(once(), epochs=4, steps_per_epoch=1, verbose=0, callbacks=[prune])
    assert len(history.epoch) == 2
    assert prune.record[0]["outcome"] == "failed"
    assert any(
        "Training failed in epoch 2: no batch was trained in it" in str(w.message) for w in caught
    )


def dead(*names):
    """The network with layers whose ReLU lets nothing through: no kernel, and a bias below 0."""
    model = plain_cnn()
    for name in names:
        layer = model.get_layer(name)
        kernel, *bias = layer.get_weights()
        layer.set_weights([0 * kernel, *(b - 1 for b in bias)])
        if name == "conv1":
            gamma, beta, *moments = model.get_layer("bn1").get_weights()
            model.get_layer("bn1").set_weights([gamma, beta - 1, *moments])
    return compiled(model, learning_rate=1e-6)


def fit_dead(model, prune):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*images(40), batch_size=16, epochs=4, verbose=0, callbacks=[prune])
    return [str(w.message) for w in caught if "was positive" in str(w.message)]


def test_dead_layer_is_named_once_and_shrinks_to_the_floor():
    model, prune = dead("conv2"), ADPrune(schedule=[2], rule=WidthRule(min_width=3), verbose=0)
    said = fit_dead(model, prune)
    assert len(said) == 1
    assert said[0].startswith(
        "net0: no activation of these layers was positive in a whole epoch: ['conv2'"
    )
    assert prune.record[0]["outcome"] == "pruned"
    assert layer_widths(model)["conv2"] == 3


def test_network_that_is_dead_throughout_is_not_pruned():
    model = dead("conv1", "conv2", "hidden")
    prune = ADPrune(schedule=[2], verbose=0)
    assert len(fit_dead(model, prune)) == 1
    assert layer_widths(model) == layer_widths(plain_cnn())
    (entry,) = prune.record
    assert entry["logs"]["activation_density"] == [0, 0, 0, 0]
    assert (entry["outcome"], entry["reason"]) == (
        "final",
        "epoch 2 is in the schedule, but no ReLU lets anything through",
    )
