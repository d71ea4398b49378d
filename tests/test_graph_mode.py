"""Each road through a prune in graph mode: a trace must not outlive the net that it was made for.

Other tests train eagerly (`toys.mode`), which is faster and hides a function that was not traced again.

| road | what happens between two epochs | TensorFlow | JAX | PyTorch |
|---|---|---|---|---|
| `swap` | a plain prune: a smaller graph in place of the old | tf.function | jax.jit | no trace |
| `projection` | a prune that puts a projection on a shortcut | tf.function | jax.jit | no trace |
| `coupled` | a prune of one width for all that an Add ties | tf.function | jax.jit | no trace |
| `rollback` | the net before comes back with its optimizer | tf.function | jax.jit | no trace |
| `resume` | a new `fit` goes on from a backup, after a prune | tf.function | jax.jit | no trace |

Each cell is `test_road[road]` on that backend: on the current one here, on the others that are installed
from tests/test_backends.py, among the slow tests. Keras on PyTorch traces nothing unless told to by
`jit_compile`; there the roads run as users compile them, and the checks of weights and answers hold.
"""

import itertools

import keras
import numpy as np
import pytest
from toys import compiled, graph_mode, images, plain_cnn

from adprune_keras import ADPrune, WidthRule, layer_widths
from adprune_keras.live.meter import Meter, _Sums
from adprune_keras.prune.schedule import Saturation

BACKEND = keras.backend.backend()
X, Y = images(24)
SMALL = WidthRule(min_width=2)
# AE by epoch: saturated after two (prune), then rising (rollback), then the final net's.
RISING = (0.5, 0.5, 0.4, 0.45, 0.4501, 0.5, 0.5)
numpy = keras.ops.convert_to_numpy


def block():
    """Two convolutions with an Add around the second: the smallest net with a shortcut."""
    inputs = keras.Input((8, 8, 1))
    a = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    b = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(a)
    x = keras.layers.ReLU(name="relu")(keras.layers.Add(name="add")([a, b]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="out")(x))


ROADS = {
    "swap": (plain_cnn, {"schedule": [1, 2]}, 3, ["pruned", "pruned", "final"]),
    "projection": (block, {"schedule": [1]}, 2, ["pruned", "final"]),
    "coupled": (block, {"schedule": [1], "shortcuts": "couple"}, 2, ["pruned", "final"]),
    "rollback": (
        plain_cnn,
        {"schedule": Saturation(min_epochs=2, patience=1, final_epochs=2)},
        7,
        ["pruned", "rolled back", "final"],
    ),
    "resume": (plain_cnn, {"schedule": [1]}, 3, ["pruned", "final"]),
}


class Watch(keras.callbacks.Callback):
    """What was traced in each epoch, which variables did not change in one, and the widths."""

    def __init__(self, traces):
        super().__init__()
        self.traces, self.traced, self.unchanged, self.widths = traces, [], [], []

    def weights(self):
        return {v.path: numpy(v) for v in self.model.trainable_variables}

    def on_epoch_begin(self, epoch, logs=None):
        assert not self.model.run_eagerly and self.model.jit_compile == (BACKEND == "jax")
        self.before, self.seen = self.weights(), len(self.traces)

    def on_epoch_end(self, epoch, logs=None):
        after = self.weights()
        assert after.keys() == self.before.keys()
        self.unchanged += [k for k in after if np.array_equal(after[k], self.before[k])]
        self.traced.append(len(self.traces) - self.seen)
        self.widths.append(layer_widths(self.model))


class Broken(Exception):
    pass


class Break(keras.callbacks.Callback):
    """Ends a `fit` in the first step behind the prune."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1:
            raise Broken


def train(road, traces, directory=None, *others):
    build, settings, epochs, _ = ROADS[road]
    keras.utils.set_random_seed(0)
    model, watch = compiled(build(), **graph_mode()), Watch(traces)
    prune = ADPrune(**settings, rule=SMALL, backup_dir=directory, verbose=0)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=epochs, callbacks=[prune, watch, *others], **options)
    return model, prune, watch


@pytest.fixture
def traces(monkeypatch):
    """A list that grows with each trace of the training step; on PyTorch, with each step."""
    traces, add = [], _Sums.add

    def counted(self, positives):
        traces.append(self)
        add(self, positives)

    monkeypatch.setattr(_Sums, "add", counted)
    return traces


@pytest.mark.parametrize("road", ROADS)
def test_road(road, traces, tmp_path, monkeypatch):
    if road == "rollback":
        totals, read = iter(RISING), Meter.read

        def scripted(meter):
            return type(found := read(meter))(found.channels, next(totals))

        monkeypatch.setattr(Meter, "read", scripted)
    if road == "resume":
        with pytest.raises(Broken):
            train(road, traces, tmp_path, Break())
        del traces[:]
    model, prune, watch = train(road, traces, tmp_path if road == "resume" else None)

    assert [entry["outcome"] for entry in prune.record] == ROADS[road][3]
    assert layer_widths(model, prune.pruning.shortcuts) == prune.record[-1]["widths"]
    # A function of the net before would train variables that are no longer the model's.
    assert watch.unchanged == []
    begins = [a != b for a, b in itertools.pairwise([None, *watch.widths])]
    if BACKEND != "torch":  # each net is traced in its first epoch and never again
        assert [n > 0 for n in watch.traced] == begins
        assert all(n <= 1 for n in watch.traced[1:])  # at first TensorFlow builds the metrics too
    # What Keras' own functions say is what the layers say, one by one.
    found = numpy(model(X, training=False))
    np.testing.assert_allclose(model.predict(X, batch_size=8, verbose=0), found, rtol=1e-4, atol=1e-6)
    loss = -np.mean(np.log(found[np.arange(len(Y)), Y]))
    assert model.evaluate(X, Y, batch_size=8, verbose=0)[0] == pytest.approx(loss, rel=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere variables are no part of a trace")
def test_a_stale_function_is_seen(traces, monkeypatch):
    """The function of net0, kept through a prune, fails or leaves the new variables as they are."""
    for module in ("exchange", "meter"):
        monkeypatch.setattr(f"adprune_keras.live.{module}.remake_functions", lambda model: None)
    try:
        *_, watch = train("swap", traces)
    except Exception:
        return
    assert watch.unchanged
