import csv
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from toys import compiled, images, plain_cnn, sequential_cnn

from adprune_keras import ADPrune, WidthRule, layer_widths, models
from adprune_keras.density.numbers import Density
from adprune_keras.live.meter import Meter
from adprune_keras.prune.schedule import Epochs, Saturation

numpy = keras.ops.convert_to_numpy
SMALL = WidthRule(min_width=2)


def resnet():
    return models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[6] * 17)


def vgg():
    return models.VGG11(input_shape=(8, 8, 1), classes=4, widths=[6] * 8)


NETWORKS = [plain_cnn, sequential_cnn, vgg, resnet]


def fit(model, prune, epochs=5, callbacks=(), **kwargs):
    x, y = images(40)
    settings = {"batch_size": 16, "verbose": 0, "validation_data": images(20, seed=1)}
    return model.fit(x, y, epochs=epochs, callbacks=[prune, *callbacks], **(settings | kwargs))


def scripted(monkeypatch, totals, density=0.5):
    """Let the meter read these totals, epoch by epoch, and the same density everywhere."""
    values = iter(totals)

    def read(meter):
        owners = {name: width for p in meter.parts for name, (*_, width) in p.owners.items()}
        channels = {name: np.full(width, density) for name, width in owners.items()}
        return Density(channels, next(values))

    monkeypatch.setattr(Meter, "read", read)


class Watch(keras.callbacks.Callback):
    """Which trainable variables changed during each epoch, and how far the optimizer was."""

    def __init__(self):
        super().__init__()
        self.unchanged, self.iterations, self.sizes = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = {v.path: numpy(v) for v in self.model.trainable_variables}

    def on_epoch_end(self, epoch, logs=None):
        after = {v.path: numpy(v) for v in self.model.trainable_variables}
        assert after.keys() == self.before.keys()
        self.unchanged.append([k for k in after if np.array_equal(after[k], self.before[k])])
        self.iterations.append(int(self.model.optimizer.iterations))
        self.sizes.append(sum(v.size for v in after.values()))


@pytest.mark.parametrize("build", NETWORKS)
def test_prunes_in_place_and_leaves_plain_keras(build, tmp_path):
    model = compiled(build())
    identity, dense = id(model), layer_widths(model)
    prune = ADPrune(schedule=[1, 3], rule=SMALL, weights="random", verbose=0)
    watch = Watch()
    history = fit(model, prune, epochs=4, callbacks=[watch])
    assert id(model) == identity
    assert all(type(x).__module__.startswith("keras.") for x in model.layers)
    assert all(w < dense[name] for name, w in layer_widths(model).items())
    assert [len(values) for values in history.history.values()] == [4] * len(history.history)
    assert watch.sizes[0] > watch.sizes[1] == watch.sizes[2] > watch.sizes[3]
    # three steps an epoch, counted afresh by the optimizer of each net
    assert watch.iterations == [3, 3, 6, 3]
    assert not any("adprune" in v.path for v in model.variables)

    evaluated = model.evaluate(*images(20, seed=1), batch_size=16, verbose=0)
    assert evaluated == pytest.approx(
        [history.history["val_loss"][-1], history.history["val_accuracy"][-1]], rel=1e-5
    )
    x = images(5)[0]
    model.save(tmp_path / "final.keras")
    loaded = keras.models.load_model(tmp_path / "final.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5)


@pytest.mark.parametrize("build", [plain_cnn, vgg, resnet])
def test_every_variable_trains_after_a_prune(build):
    """Every trainable variable changes in the epoch after the prune."""
    model, watch = compiled(build()), Watch()
    fit(model, ADPrune(schedule=[2], rule=SMALL, verbose=0), epochs=4, callbacks=[watch])
    assert watch.unchanged[2] == watch.unchanged[3] == []


@pytest.mark.slow
def test_files_load_where_the_package_is_not_installed(tmp_path):
    model = compiled(resnet())
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "epoch{epoch}.keras"))
    often = keras.callbacks.ModelCheckpoint(str(tmp_path / "batch.keras"), save_freq=2)
    prune = ADPrune(schedule=[2], rule=SMALL, verbose=0)
    fit(model, prune, epochs=3, callbacks=[checkpoint, often])
    model.save(tmp_path / "final.keras")
    script = """
import sys
sys.modules["adprune_keras"] = None
import keras, numpy as np
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    print(model.count_params(), model.predict(np.ones((1, 8, 8, 1), "float32"), verbose=0).shape)
"""
    files = ["epoch1.keras", "epoch2.keras", "epoch3.keras", "batch.keras", "final.keras"]
    result = subprocess.run(
        [sys.executable, "-c", script, *(str(tmp_path / f) for f in files)],
        capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    sizes = [int(line.split()[0]) for line in result.stdout.splitlines()]
    # a checkpoint at the end of an epoch holds the net that the epoch's metrics are of
    assert sizes[0] == sizes[1] > sizes[2] == sizes[3] == sizes[4] == model.count_params()


def _environment():
    import os

    return os.environ | {"KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": ""}


def test_logs_reach_every_callback(tmp_path):
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    prune = ADPrune(schedule=[1], rule=SMALL, verbose=0)
    history = fit(compiled(plain_cnn()), prune, epochs=3, callbacks=[logger])
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [len(e["logs"]["loss"]) for e in prune.record] == [1, 2]
    # one set of columns over all nets, each with a value: None would be a column too many or too few
    assert all(set(row) == {"epoch", *history.history} and all(row.values()) for row in rows)
    written = [float(row["activation_density"]) for row in rows]
    np.testing.assert_allclose(written, history.history["activation_density"])
    assert all(0 < value < 1 for value in written)


@pytest.mark.parametrize("verbose", [1, 2])
def test_keras_prints_one_line_an_epoch_with_density_in_it(verbose, capsys):
    prune = ADPrune(schedule=[1], rule=SMALL, verbose=0)
    history = fit(compiled(plain_cnn()), prune, epochs=2, verbose=verbose)
    lines = capsys.readouterr().out.split("\n")  # and not at carriage returns
    # a bar writes over itself: what stays of a line is behind its last carriage return
    shown = [line for line in lines if line and not line.startswith("Epoch ")]
    assert len(shown) == 2 and lines.count("Epoch 1/2") == 1
    for line, total in zip(shown, history.history["activation_density"], strict=True):
        assert f"activation_density: {total:.4f}" in line.rpartition("\r")[2]


def test_everything_compiled_stays():
    model = plain_cnn()
    loss = keras.losses.SparseCategoricalCrossentropy()
    steps = 1 if keras.backend.backend() == "torch" else 2  # torch runs no several steps at once
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="hits")
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    model.compile(
        keras.optimizers.Adam(schedule, beta_1=0.8),
        loss,
        metrics=[accuracy],
        steps_per_execution=steps,
        jit_compile=False,
    )
    prune = ADPrune(schedule=[2], rule=SMALL, weights="random", verbose=0)
    history = fit(model, prune, epochs=3)
    assert model.loss is loss
    assert set(history.history) == {"loss", "hits", "val_loss", "val_hits", "activation_density"}
    assert (type(model.optimizer).__name__, model.optimizer.beta_1) == ("Adam", 0.8)
    assert model.optimizer.iterations == 3  # one epoch: optimizer and schedule began afresh
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)
    assert model.steps_per_execution == steps


def test_learning_rate_that_a_callback_changed_does_not_stick():
    model = compiled(plain_cnn(), learning_rate=0.1)

    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.model.optimizer.learning_rate = 0.001

    prune = ADPrune(schedule=[2], rule=SMALL, weights="random", verbose=0)
    fit(model, prune, epochs=3, callbacks=[Lower()])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_prunes_when_saturated_and_says_so(monkeypatch, capsys):
    scripted(monkeypatch, [0.5, 0.45, 0.4496, 0.4494, 0.5, 0.49, 0.48, 0.47])
    prune = ADPrune(schedule=Saturation(min_epochs=2))
    history = fit(compiled(vgg()), prune, epochs=8)
    assert [(e["net"], e["start"], e["epochs"], e["outcome"]) for e in prune.record] == [
        (0, 0, 4, "pruned"),
        (1, 4, 4, "final"),
    ]
    assert set(prune.record[1]["widths"].values()) == {4}
    assert history.history["activation_density"][3] == 0.4494
    line = capsys.readouterr().out
    assert line.startswith(
        "ADPrune: after epoch 4: net0 -> net1, pruned to 32 channels from 48, because AE saturated at "
        "0.449 (it changed by less than 0.001 in each of 2 epochs). Against net0: 1.98x / "
    )
    assert re.search(r"1\.98x / \d\.\d\dx fewer MACs, 2\.22x / \d\.\d\dx fewer parameters", line)
    assert line.endswith(" (paper / deployed count).\n")
    assert line.count("\n") == 1


def test_rollback_restores_the_net_before(monkeypatch, capsys):
    # net0 falls and saturates after epoch 4; net1 rises and saturates after epoch 9
    scripted(
        monkeypatch,
        [0.5, 0.4, 0.4, 0.4, 0.3, 0.35, 0.4, 0.4005, 0.401, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
    )
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = (
                [numpy(v) for v in self.model.weights if "adprune" not in v.path],
                int(self.model.optimizer.iterations),
                self.model.optimizer,
            )

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 9:
                kept["restored"] = (
                    [numpy(v) for v in self.model.weights if "adprune" not in v.path],
                    int(self.model.optimizer.iterations),
                    self.model.optimizer,
                )

    model = compiled(resnet())
    prune = ADPrune(schedule=Saturation(min_epochs=2, final_epochs=3))
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: outcomes.append(prune.record[-1]["outcome"])
    )
    outcomes = []
    fit(model, prune, epochs=16, callbacks=[Keep(), note])
    # other callbacks see at an epoch's end that the net they hold is about to go
    assert [i + 1 for i, o in enumerate(outcomes) if o != "training"] == [4, 9]
    assert [e["profile"] for e in prune.record] == ["convex", "concave", "flat"]
    assert [(e["net"], e["start"], e["epochs"], e["outcome"]) for e in prune.record] == [
        (0, 0, 4, "pruned"),
        (1, 4, 5, "rolled back"),
        (0, 9, 3, "final"),
    ]
    for old, new in zip(kept[3][0], kept["restored"][0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert kept[3][1:] == kept["restored"][1:]
    assert int(model.optimizer.iterations) == kept[3][1] + 9
    assert layer_widths(model) == prune.record[0]["widths"]
    assert "net1 -> net0" in capsys.readouterr().out


def test_without_rollback_the_current_net_stays(monkeypatch):
    scripted(monkeypatch, [0.4] * 3 + [0.3, 0.35, 0.4, 0.4005, 0.401] + [0.4] * 8)
    prune = ADPrune(schedule=Saturation(min_epochs=2, rollback=False))
    fit(compiled(plain_cnn()), prune, epochs=16)
    assert [(e["net"], e["epochs"]) for e in prune.record] == [(0, 3), (1, 13)]
    assert "pruning ends here" in prune.record[1]["reason"]


def test_final_epochs_end_training(monkeypatch):
    scripted(monkeypatch, [0.4] * 20)
    prune = ADPrune(schedule=Saturation(min_epochs=2, final_epochs=4, max_prunes=1))
    history = fit(compiled(plain_cnn()), prune, epochs=20)
    assert [(e["net"], e["epochs"]) for e in prune.record] == [(0, 3), (1, 4)]
    assert len(history.epoch) == 7


def test_planned_epochs(monkeypatch):
    """What a learning-rate schedule needs: how long the current net will train, as known by then."""

    def planned(totals, epochs, **settings):
        scripted(monkeypatch, totals)
        schedule, seen = Saturation(min_epochs=2, **settings), []
        prune = ADPrune(schedule=schedule, verbose=0)
        note = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(prune.planned_epochs)
        )
        fit(compiled(plain_cnn()), prune, epochs=epochs, callbacks=[note])
        return seen

    # pruned after epoch 3, then four final epochs
    assert planned([0.4] * 9, 9, final_epochs=4, max_prunes=1) == [9] * 3 + [4] * 4
    # saturated too late to prune: net0 trains to the end
    assert planned([0.5, 0.45, 0.4] + [0.4] * 3, 6, final_epochs=4) == [6] * 6


def test_too_few_epochs_to_prune_safely(monkeypatch, capsys):
    scripted(monkeypatch, [0.4] * 5)
    prune = ADPrune(schedule=Saturation(min_epochs=3))
    dense = fit(model := compiled(plain_cnn()), prune, epochs=5) and layer_widths(model)
    assert dense == layer_widths(plain_cnn())
    assert capsys.readouterr().out.startswith("ADPrune: epochs=5 is too few to prune:")
    assert "the final net needs 3" in prune.record[0]["reason"]


def test_rho_never_met_tells_the_last_delta(monkeypatch, capsys):
    scripted(monkeypatch, [0.5, 0.48, 0.46, 0.43])
    fit(compiled(plain_cnn()), ADPrune(schedule=Saturation(min_epochs=1)), epochs=4)
    assert (
        "No net was pruned: AE changed by -0.0300 in the last epoch, and must change by less than "
        "0.001 in each of 2 epochs in a row, after the first 1. Raise rho"
    ) in capsys.readouterr().out


def test_training_that_others_end_never_leaves_an_untrained_net():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model, prune = compiled(plain_cnn()), ADPrune(schedule=[2], rule=SMALL, verbose=0)
    fit(model, prune, epochs=6, callbacks=[Stop()])
    assert layer_widths(model) == layer_widths(plain_cnn())
    assert [e["outcome"] for e in prune.record] == ["final"]
    assert prune.record[0]["reason"] == "epoch 2 is in the schedule, but training ended first"


def test_no_layer_would_become_narrower(monkeypatch):
    scripted(monkeypatch, [0.9] * 6, density=1.0)
    prune = ADPrune(schedule=Saturation(min_epochs=1), verbose=0)
    fit(compiled(plain_cnn()), prune, epochs=6)
    assert prune.record[0]["reason"].endswith("but no layer would become narrower")


def test_record_is_plain_data():
    prune = ADPrune(schedule=[2], rule=SMALL, verbose=0)
    fit(compiled(resnet()), prune, epochs=3)
    first, second = json.loads(json.dumps(prune.record))
    assert first == prune.record[0]
    assert first["reason"] == "epoch 2 is in the schedule"
    assert first["rebuild_seconds"] == 0 < second["rebuild_seconds"]
    assert first["retrace_seconds"] > 0 < second["retrace_seconds"]
    assert first["ops_reduction"] == {"paper": 1.0, "deployed": 1.0}
    assert second["ops_reduction"]["paper"] > 1 < second["params_reduction"]["deployed"]
    assert second["widths"] == layer_widths(prune.model)
    assert len(second["logs"]["val_accuracy"]) == second["epochs"] == 1
    assert list(first["densities"]) == list(first["widths"])
    assert len(first["channel_densities"]["stem_conv"]) == 6
    assert first["kept_channels"] is None
    for name, kept in second["kept_channels"].items():
        densities = first["channel_densities"][name]
        densest = sorted(range(6), key=lambda n: -densities[n])[: second["widths"][name]]
        assert kept == sorted(densest), name
    means = {k: np.mean(v) for k, v in first["channel_densities"].items()}
    assert means == pytest.approx({k: v[-1] for k, v in first["densities"].items()})


def test_seed_repeats_the_run():
    def run():
        keras.utils.set_random_seed(3)
        model = compiled(plain_cnn())
        fit(model, ADPrune(schedule=[1], rule=SMALL, seed=5, verbose=0), epochs=2)
        return model.get_weights()

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_second_fit_starts_over():
    model, prune = compiled(plain_cnn()), ADPrune(schedule=[1], rule=SMALL, verbose=0)
    fit(model, prune, epochs=2)
    once = layer_widths(model)
    fit(model, prune, epochs=2)
    assert prune.record[0]["widths"] == once
    assert prune.record[1]["widths"] != once


def test_fit_that_broke_off_leaves_nothing_behind_the_next():
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    model, prune = compiled(plain_cnn()), ADPrune(schedule=[1], rule=SMALL, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, prune, callbacks=[Break()])
    count = len(compiled(plain_cnn()).variables)
    history = fit(model, prune, epochs=2)
    assert len(history.epoch) == 2
    assert len(model.variables) == count


def test_initial_epoch_counts_from_where_fit_begins():
    prune = ADPrune(schedule=[2], rule=SMALL, verbose=0)
    fit(compiled(plain_cnn()), prune, epochs=9, initial_epoch=6)
    assert [(e["start"], e["epochs"]) for e in prune.record] == [(0, 2), (2, 1)]


def test_layers_beside_the_graph_and_own_metrics_survive():
    class Own(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.seen = keras.metrics.Mean(name="seen")

        def train_step(self, *args):
            self.seen.update_state(1.0) if keras.backend.backend() != "jax" else None
            return super().train_step(*args)

    plain = plain_cnn()
    model = compiled(Own(plain.input, plain.output))
    history = fit(model, ADPrune(schedule=[1], rule=SMALL, verbose=0), epochs=2)
    assert "seen" in history.history
    assert model.seen in model.metrics
    assert layer_widths(model) != layer_widths(plain)


def test_get_config():
    assert ADPrune().get_config()["weights"] == "inherit"
    config = ADPrune(schedule=[4], seed=1).get_config()
    assert ADPrune(**config).get_config() == config
    assert config["schedule"] == Epochs((4,))
    assert config["rule"] == WidthRule()


def test_silent(capsys):
    fit(compiled(plain_cnn()), ADPrune(schedule=[1], rule=SMALL, verbose=0), epochs=2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"schedule": "5,6"},
            "`schedule` must be a Saturation, or the epochs.*Received: schedule='5,6'",
        ),
        ({"schedule": [0]}, "ints of at least 1. Received: 0"),
        ({"rule": 8}, "`rule` must be a WidthRule or None. Received: rule=8"),
        ({"sample_places": 0}, "`sample_places` must be an int of at least 1 or None. Received: .*=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ADPrune(**arguments)


def test_keyword_only():
    with pytest.raises(TypeError):
        ADPrune(1e-3)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.top = keras.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax")])

    def call(self, x):
        return self.top(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed(), "Only Functional models and Sequential models.*type Subclassed"),
        (
            keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)]),
            "has no ReLU",
        ),
        (
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    layers.Flatten(),
                    layers.Dense(4, activation="relu", name="top"),
                ]
            ),
            r"No layer of model .* may be resized.*'top' \(it is an output of the model\)",
        ),
    ],
)
def test_models_that_cannot_be_pruned(model, message):
    with pytest.raises(ValueError, match=message):
        fit(compiled(model), ADPrune(), epochs=1)


def test_not_compiled():
    prune = ADPrune()
    prune.set_model(plain_cnn())
    with pytest.raises(ValueError, match="needs a compiled model.*'plain_cnn', not compiled"):
        prune.on_train_begin()
