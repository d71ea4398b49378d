import gc
import weakref

import keras
import numpy as np
import pytest
from toys import compiled, images, plain_cnn, sequential_cnn

from adprune_keras import ADPrune, WidthRule, resize
from adprune_keras.live import exchange
from adprune_keras.live.exchange import Net, current_net, swap
from adprune_keras.live.meter import _Sums
from adprune_keras.live.optimizer import optimizer_recipe
from adprune_keras.prune.schedule import Epochs

BACKEND = keras.backend.backend()


@pytest.mark.parametrize("build", [plain_cnn, sequential_cnn])
def test_swapped_graph_answers_and_the_old_net_is_kept(build):
    model = compiled(build())
    x = images(4)[0]
    before = current_net(model)
    old = model.predict(x, verbose=0)
    small = resize(model, {"conv1": 3}, seed=1)
    optimizer = optimizer_recipe(model.optimizer)()
    swap(model, Net(small, optimizer))
    np.testing.assert_allclose(model.predict(x, verbose=0), small.predict(x, verbose=0), rtol=1e-6)
    assert model.count_params() == small.count_params()
    assert model.optimizer is optimizer
    # two slots of SGD (iterations, learning rate) and a momentum for each trainable variable
    assert len(optimizer.variables) == 2 + len(small.trainable_variables)
    swap(model, before)
    np.testing.assert_allclose(model.predict(x, verbose=0), old, rtol=1e-6)
    assert model.optimizer is before.optimizer


def test_another_keras_is_named_in_the_message(monkeypatch):
    monkeypatch.setattr(exchange, "_GRAPH", (*exchange._GRAPH, "_no_such_attribute"))
    model = compiled(plain_cnn())
    with pytest.raises(
        RuntimeError, match=f"Keras {keras.__version__} keeps no `_no_such_attribute` on Functional"
    ):
        swap(model, Net(resize(model, {"conv1": 3}), model.optimizer))


def test_optimizer_recipe_passes_on_a_schedule_of_the_users_own():
    class Mine(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.25

        def get_config(self):
            return {}

    made = optimizer_recipe(keras.optimizers.Adam(Mine(), beta_1=0.7))()
    assert (float(made.learning_rate), made.beta_1) == (0.25, 0.7)


def train_through_prunes(model, prunes, *others):
    x, y = images(40)
    epochs = list(range(1, prunes + 1))
    prune = ADPrune(schedule=Epochs(tuple(epochs), 1), rule=WidthRule(max_shrink=0.05), verbose=0)
    callbacks = [prune, *others]
    model.fit(x, y, batch_size=20, epochs=prunes + 1, verbose=0, callbacks=callbacks)
    assert len(prune.record) == prunes + 1


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is traced")
def test_each_net_is_traced_once(monkeypatch):
    traced, add = [0], _Sums.add

    def counted(self, positives):
        traced[-1] += 1
        add(self, positives)

    monkeypatch.setattr(_Sums, "add", counted)
    next_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: traced.append(0))
    train_through_prunes(compiled(plain_cnn(40), jit_compile="auto"), 3, next_epoch)
    # net0 twice on TensorFlow, where Keras builds the metrics in its first step.
    assert traced == [2 if BACKEND == "tensorflow" else 1, 1, 1, 1, 0]


@pytest.mark.parametrize("build", [plain_cnn, pytest.param(sequential_cnn, marks=pytest.mark.slow)])
def test_old_nets_are_let_go(build):
    kernels, graphs = [], []

    def count(epoch, logs):
        kernels.append(weakref.ref(model.get_layer("conv1").kernel))
        gc.collect()
        graphs.append(sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects()))

    model = compiled(build(40), run_eagerly=False)
    train_through_prunes(model, 5, keras.callbacks.LambdaCallback(on_epoch_end=count))
    gc.collect()
    assert [kernel() is None for kernel in kernels] == [True] * 5 + [False]
    if BACKEND == "tensorflow":
        assert graphs[1:] == [graphs[1]] * 5
