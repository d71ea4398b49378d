"""A `fit` that breaks off and goes on ends as one that did not: the same to the bit."""

import errno
import os
import random
import signal

import keras
import numpy as np
import pytest
from keras import layers
from toys import compiled, images, plain_cnn, sequential_cnn

from adprune_keras import ADPrune, WidthRule, layer_widths, models
from adprune_keras.backup import store
from adprune_keras.backup.callback import Backup
from adprune_keras.backup.sigterm import TERMINATED
from adprune_keras.files import lock
from adprune_keras.live.meter import Meter
from adprune_keras.prune.schedule import Saturation

numpy = keras.ops.convert_to_numpy
X, Y = images(40)
# TensorFlow shuffles arrays by state of its own, which begins afresh in a new process.
SHUFFLE = keras.backend.backend() != "tensorflow"
RISING = (0.5, 0.5, 0.4, 0.45, 0.4501, 0.5, 0.5)


class Broken(Exception):
    pass


class At(keras.callbacks.Callback):
    """Does something at the end of an epoch (counted from 0), or of one of its steps."""

    def __init__(self, what, epoch, step=None):
        super().__init__()
        self.what, self.at = what, (epoch, step)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.what()

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            self.what()


def breaks():
    raise Broken


def dropout_net():
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(layers.Dropout(0.3, name="drop")(inputs))
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="out")(x))


def resnet():
    return models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=[4] * 17)


def fit(build, first, *others, epochs=5, **kwargs):
    """Train as a script does that is started (again); return all that must not differ."""
    keras.utils.set_random_seed(0)
    model = compiled(build())
    settings = {"batch_size": 8, "shuffle": SHUFFLE, "verbose": 0, "validation_data": images(20, seed=1)}
    history = model.fit(X, Y, epochs=epochs, callbacks=[first, *others], **(settings | kwargs))
    record = [
        {k: v for k, v in entry.items() if not k.endswith("_seconds")}
        for entry in getattr(first, "record", [])
    ]
    variables = [numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    return history.history, history.epoch, record, variables


def prune(directory, **kwargs):
    return ADPrune(
        **({"schedule": [2, 4], "rule": WidthRule(min_width=2), "verbose": 0} | kwargs),
        backup_dir=directory,
    )


def same(one, two):
    assert one[:3] == two[:3]
    for a, b in zip(one[3], two[3], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("build", "weights", "save_freq", "places"),
    [
        (
            plain_cnn,
            "inherit",
            None,
            [(0, 1), (1, None), (4, 2)],
        ),  # in the first, at a prune, in the last
        pytest.param(  # within the epoch after a prune
            *(plain_cnn, "random", 2, [(2, 3), (2, 4)]), marks=pytest.mark.slow
        ),
        (sequential_cnn, "inherit", 1, [(3, 0)]),
        (dropout_net, "inherit", 2, [(2, 2)]),
    ],
)
def test_goes_on_to_the_same_end(tmp_path, build, weights, save_freq, places):
    expected = fit(build, prune(None, weights=weights))
    for n, place in enumerate(places):
        with pytest.raises(Broken):
            fit(build, prune(tmp_path, weights=weights, save_freq=save_freq), At(breaks, *place))
        if n + 1 == len(places):  # the others break off the same run again
            same(fit(build, prune(tmp_path, weights=weights, save_freq=save_freq)), expected)


class Draws(keras.callbacks.Callback):
    """Uses each global source of random numbers at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.drawn = []

    def on_epoch_end(self, epoch, logs=None):
        drawn = random.random(), np.random.random(), float(numpy(keras.random.uniform(())))
        self.drawn.append(drawn)


def test_random_numbers_go_on(tmp_path):
    whole, broken, rest = Draws(), Draws(), Draws()
    fit(plain_cnn, prune(None), whole)
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path), broken, At(breaks, 2, 1))
    fit(plain_cnn, prune(tmp_path), rest)
    assert [*broken.drawn, *rest.drawn] == whole.drawn
    assert len(set(whole.drawn)) == 5


def test_goes_on_in_the_same_process(tmp_path):
    """As in a notebook: the same callback, after an interrupt."""
    expected, callback = fit(plain_cnn, prune(None)), prune(tmp_path)
    with pytest.raises(Broken):
        fit(plain_cnn, callback, At(breaks, 2))
    same(fit(plain_cnn, callback), expected)


@pytest.mark.slow  # tests/faults kills a run in a rollback by default
def test_goes_on_around_a_rollback(tmp_path, monkeypatch):
    """The net before is kept with its optimizer, and what was decided but not done is done."""
    read, now = Meter.read, []

    def scripted(meter):
        density = read(meter)
        return type(density)(density.channels, RISING[now[-1]])

    monkeypatch.setattr(Meter, "read", scripted)
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: now.append(epoch))

    def run(directory, *others):
        settings = {"schedule": Saturation(min_epochs=2, patience=1, final_epochs=2)}
        return fit(resnet, prune(directory, **settings), clock, *others, epochs=7)

    expected = run(None)
    assert [entry["outcome"] for entry in expected[2]] == ["pruned", "rolled back", "final"]
    for place in ((3, None), (4, None), (5, 1)):
        with pytest.raises(Broken):
            run(tmp_path, At(breaks, *place))
    same(run(tmp_path), expected)


def test_a_network_that_is_not_pruned(tmp_path):
    expected = fit(plain_cnn, At(breaks, None))
    with pytest.raises(Broken):
        fit(plain_cnn, Backup(tmp_path, save_freq=2, verbose=0), At(breaks, 2, 3))
    same(fit(plain_cnn, Backup(tmp_path, save_freq=2, verbose=0)), expected)


def test_other_callbacks_go_on_too(tmp_path):
    class Own(keras.callbacks.Callback):
        seen = 0

        def on_epoch_end(self, epoch, logs=None):
            self.seen += 1

        def get_state(self):
            return {"seen": self.seen}

        def set_state(self, state):
            self.seen = state["seen"]

    def others():
        best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "loss", save_best_only=True)
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=1, min_delta=9)
        return [plateau, best, Own()]

    expected, found = others(), others()
    one = fit(plain_cnn, prune(None), *expected)
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path / "b"), *others(), At(breaks, 3))
    same(fit(plain_cnn, prune(tmp_path / "b"), *found), one)
    assert one[0]["learning_rate"][0] > one[0]["learning_rate"][-1]
    assert found[1].best == expected[1].best
    assert found[2].seen == expected[2].seen == 5


def test_early_stopping_goes_on_with_its_best_weights(tmp_path):
    def stop():
        return keras.callbacks.EarlyStopping(
            "val_loss", patience=9, min_delta=9, restore_best_weights=True
        )

    def first(directory):
        return Backup(directory, verbose=0)

    expected = fit(plain_cnn, first(tmp_path / "a"), stop())
    with pytest.raises(Broken):
        fit(plain_cnn, first(tmp_path / "b"), stop(), At(breaks, 3))
    same(fit(plain_cnn, first(tmp_path / "b"), stop()), expected)


@pytest.mark.slow
def test_a_run_that_is_over_is_not_trained_again(tmp_path):
    expected = fit(plain_cnn, prune(tmp_path))
    trained = []
    count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: trained.append(epoch))
    with pytest.warns(UserWarning, match="holds a run that is over: nothing is trained"):
        again = fit(plain_cnn, prune(tmp_path), count)
    same(again, expected)
    assert not trained


def test_what_differs_is_named(tmp_path):
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path), At(breaks, 1))

    def wider():
        return plain_cnn(9)

    cases = [
        (plain_cnn, {"schedule": [2, 3]}, {}, r"ADPrune: prune_at=\[2, 3\] \(it has \[2, 4\]\)"),
        (plain_cnn, {}, {"epochs": 6}, r"fit: epochs=6 \(it has 5\)"),
        (wider, {}, {}, r"model: bn1='BatchNormalization\(\(9,\), .*, conv1='Conv2D\("),
    ]
    for build, arguments, options, message in cases:
        with pytest.raises(ValueError, match=f"holds the backup of another run. Received: {message}"):
            fit(build, prune(tmp_path, **arguments), **options)
    fit(plain_cnn, prune(tmp_path, verbose=0, save_freq=3))  # these do not matter


def test_sigterm_saves_and_exits(tmp_path):
    expected = fit(plain_cnn, prune(None))
    before = signal.getsignal(signal.SIGTERM)
    for place in ((1, 1), (2, None), (4, 4)):  # within an epoch, in its end, after the last step
        with pytest.raises(SystemExit) as e:
            fit(plain_cnn, prune(tmp_path), At(lambda: os.kill(os.getpid(), signal.SIGTERM), *place))
        assert e.value.code == TERMINATED == 143
        assert signal.getsignal(signal.SIGTERM) is before
        assert not (tmp_path / lock.NAME).exists()
    with pytest.warns(UserWarning, match="is over"):
        same(fit(plain_cnn, prune(tmp_path)), expected)


def test_sigterm_after_a_fit_that_broke_off(tmp_path):
    seen, before = [], signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    try:
        with pytest.raises(Broken):
            fit(plain_cnn, prune(tmp_path), At(breaks, 0))
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == ["mine"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_closing_after_a_fit_that_broke_off_puts_the_handler_back(tmp_path):
    before, callback = signal.getsignal(signal.SIGTERM), prune(tmp_path)
    with pytest.raises(Broken):
        fit(plain_cnn, callback, At(breaks, 0))
    callback.backup.close()
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / lock.NAME).exists()


def test_a_directory_opened_ahead_of_fit_stays_open_after_it(tmp_path):
    callback, directory = prune(tmp_path / "backup"), tmp_path / "backup"
    callback.backup.open()
    assert callback.backup.epoch == 0
    fit(plain_cnn, callback)
    assert (directory / lock.NAME).exists()
    callback.backup.close(remove=True)
    assert not directory.exists()


def test_a_state_that_cannot_be_kept_is_refused_at_the_first_save(tmp_path):
    class Own(keras.callbacks.Callback):
        def get_state(self):
            return {1: "one"}

        def set_state(self, state):
            raise AssertionError

    with pytest.raises(store.BackupError, match="keys of a state must be of type str. Received: 1"):
        fit(plain_cnn, prune(tmp_path), Own())


def test_a_state_that_cannot_be_saved(tmp_path, monkeypatch):
    expected = fit(plain_cnn, prune(None))
    write = store.write

    def full(directory, number, state):
        if number == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(directory, number, state)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(
        store.BackupError, match="The state of epoch 2 could not be saved.*No space left"
    ):
        fit(plain_cnn, prune(tmp_path))
    monkeypatch.undo()
    same(fit(plain_cnn, prune(tmp_path)), expected)


def test_a_lock_that_was_lost_ends_training(tmp_path):
    with pytest.raises(store.BackupError, match="This process no longer holds"):
        fit(plain_cnn, prune(tmp_path), At((tmp_path / lock.NAME).unlink, 2))


def test_bad_arguments(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="`backup_dir` must be a directory that can be written"):
            fit(plain_cnn, prune(directory))
    with pytest.raises(ValueError, match="`save_freq` must be an int from 1 on.*0"):
        ADPrune(backup_dir=tmp_path, save_freq=0)
    with pytest.raises(ValueError, match="`save_freq` needs a `backup_dir`"):
        ADPrune(save_freq=5)
    with pytest.raises(ValueError, match="must be the path of a directory. Received: 3"):
        ADPrune(backup_dir=3)


def test_widths_follow(tmp_path):
    keras.utils.set_random_seed(0)
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path), At(breaks, 3))
    callback, model = prune(tmp_path), compiled(plain_cnn())
    model.fit(
        X, Y, batch_size=8, shuffle=SHUFFLE, epochs=5, verbose=0, callbacks=[callback],
        validation_data=images(20, seed=1),
    )  # fmt: skip
    assert layer_widths(model) == callback.record[-1]["widths"]
    assert model.fit(X, Y, epochs=2, verbose=0).epoch == [0, 1]  # not from where that one went on


def forge(directory, change):
    """Change what a backup holds, with a right checksum, as whoever makes backups can."""
    saved = store.newest(directory)
    state = store.decode(saved.body)
    change(state)
    for number in (1, 2):
        store.write(directory, saved.number + number, state)


@pytest.mark.parametrize("weights", ["inherit", pytest.param("random", marks=pytest.mark.slow)])
@pytest.mark.parametrize(  # a prune was decided, and saved; it was done
    "place", [pytest.param((2, 0), marks=pytest.mark.slow), (3, 1)]
)
def test_a_resume_keeps_the_channels_of_the_record(tmp_path, weights, place):
    """Which channels stayed is not worked out again: other densities give the same net."""
    expected = fit(resnet, prune(None, weights=weights))
    with pytest.raises(Broken):
        fit(resnet, prune(tmp_path, weights=weights), At(breaks, *place))

    def other_densities(state):
        for entry in state["owner"]["record"]:
            found = entry["channel_densities"]
            entry["channel_densities"] = {k: [1 - v for v in values] for k, values in found.items()}

    forge(tmp_path, other_densities)
    found = fit(resnet, prune(tmp_path, weights=weights))
    assert found[2][0].pop("channel_densities") != expected[2][0].pop("channel_densities")
    same(found, expected)
    kept = [entry["kept_channels"] for entry in found[2]]
    if weights == "random":
        assert kept == [None] * 3
    else:
        assert kept[0] is None
        for entry, channels in zip(found[2][1:], kept[1:], strict=True):
            assert {name: len(stay) for name, stay in channels.items()} == entry["widths"]


@pytest.mark.slow
def test_channels_narrowed_to_one_a_group_go_on(tmp_path):
    """The grouped convolution becomes a depthwise one: no width of the net that it makes is its own."""

    def grouped():
        inputs = keras.Input((8, 8, 1), name="image")
        x = layers.Conv2D(8, 1, activation="relu", name="a")(inputs)
        x = layers.Conv2D(8, 3, groups=4, activation="relu", name="b")(x)
        x = layers.GlobalAveragePooling2D(name="gap")(x)
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="out")(x))

    for weights in ("inherit", "random"):
        directory, settings = tmp_path / weights, {"weights": weights, "seed": 1}
        expected = fit(grouped, prune(None, **settings))
        with pytest.raises(Broken):
            fit(grouped, prune(directory, **settings), At(breaks, 3))
        same(fit(grouped, prune(directory, **settings)), expected)


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"conv1": [0, 1, 99]}, "net1 with channels of layer 'conv1' that the net before lacks"),
        ({"conv1": [1, 0]}, "net1 with channels of layer 'conv1' that the net before lacks"),
        ({"conv1": [0]}, "net1 with 1 channels of layer 'conv1', not"),
        ({}, "net1 with channels of layer 'conv1'"),
        (None, "net1 without its kept channels"),
    ],
)
def test_forged_channels_are_refused(tmp_path, forged, message):
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path), At(breaks, 3))
    forge(tmp_path, lambda state: state["owner"]["record"][1].update(kept_channels=forged))
    with pytest.raises(ValueError, match=f"another run. Received: a state of ADPrune with {message}"):
        fit(plain_cnn, prune(tmp_path))


def state_of(name, state):
    """The saved state of a callback, by the name of its class."""
    return next(values for kind, values in state["begin"]["callbacks"] if kind == name)


@pytest.mark.parametrize(
    ("name", "forged", "message"),
    [
        ("ModelCheckpoint", {"filepath": "theirs"}, r"with \[.*'filepath'.*\], expected \["),
        ("ModelCheckpoint", {"best": "theirs"}, "best=theirs"),
        ("EarlyStopping", {"best_weights": ["theirs"]}, "best_weights="),
        ("EarlyStopping", {"wait": {"model": 1}}, "wait="),
        ("CSVLogger", {"filename": "theirs"}, r"with \['filename'\], expected \[\]"),
        ("History", {"params": {"epochs": 9}}, "'params'"),
        ("History", {"history": {"loss": "theirs"}}, "history="),
    ],
)
def test_a_forged_backup_sets_no_attribute_of_a_callback(tmp_path, name, forged, message):
    theirs = tmp_path / "theirs"
    theirs.write_text("years of work")
    forged = {
        k: str(theirs) if v == "theirs" and k in ("filepath", "filename") else v
        for k, v in forged.items()
    }

    def others():
        checkpoint = keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", save_weights_only=True
        )
        return [
            checkpoint,
            keras.callbacks.EarlyStopping(),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ]

    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path / "backup"), *others(), At(breaks, 1))
    forge(tmp_path / "backup", lambda state: state_of(name, state).update(forged))
    with pytest.raises(ValueError, match=f"another run. Received: a state of {name}.*{message}"):
        fit(plain_cnn, prune(tmp_path / "backup"), *others())
    assert theirs.read_text() == "years of work"


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(epoch="0"),
        lambda state: state.update(calls=-1),
        lambda state: state.pop("settings"),
        lambda state: state["begin"].update(callbacks=[["ModelCheckpoint"]]),
        lambda state: state["variables"].update(model=["theirs"]),
    ],
)
def test_a_forged_backup_is_refused_before_anything_is_restored(tmp_path, change):
    with pytest.raises(Broken):
        fit(plain_cnn, prune(tmp_path), At(breaks, 1))
    forge(tmp_path, change)
    with pytest.raises(ValueError, match="was not made by this package"):
        fit(plain_cnn, prune(tmp_path))
