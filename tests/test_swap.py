import keras
import numpy as np
import pytest
from toys import compiled, images, plain_cnn, sequential_cnn

from adprune_keras import resize, swap


@pytest.mark.parametrize("build", [plain_cnn, sequential_cnn])
def test_swapped_graph_answers_and_the_old_net_is_kept(build):
    model = compiled(build())
    x = images(4)[0]
    before = swap.current_net(model)
    old = model.predict(x, verbose=0)
    small = resize(model, {"conv1": 3}, seed=1)
    optimizer = swap.optimizer_recipe(model.optimizer)()
    swap.swap(model, swap.Net(small, optimizer))
    np.testing.assert_allclose(model.predict(x, verbose=0), small.predict(x, verbose=0), rtol=1e-6)
    assert model.count_params() == small.count_params()
    assert model.optimizer is optimizer
    # two slots of SGD (iterations, learning rate) and a momentum for each trainable variable
    assert len(optimizer.variables) == 2 + len(small.trainable_variables)
    swap.swap(model, before)
    np.testing.assert_allclose(model.predict(x, verbose=0), old, rtol=1e-6)
    assert model.optimizer is before.optimizer


def test_another_keras_is_named_in_the_message(monkeypatch):
    monkeypatch.setattr(swap, "_GRAPH", (*swap._GRAPH, "_no_such_attribute"))
    model = compiled(plain_cnn())
    with pytest.raises(
        RuntimeError, match=f"Keras {keras.__version__} keeps no `_no_such_attribute` on Functional"
    ):
        swap.swap(model, swap.Net(resize(model, {"conv1": 3}), model.optimizer))


def test_optimizer_recipe_passes_on_a_schedule_of_the_users_own():
    class Mine(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.25

        def get_config(self):
            return {}

    made = swap.optimizer_recipe(keras.optimizers.Adam(Mine(), beta_1=0.7))()
    assert (float(made.learning_rate), made.beta_1) == (0.25, 0.7)
