import json
import os
import subprocess
import sys

import pytest
from toys import compiled, header, images, plain_cnn

from adprune_keras import ADPrune, WidthRule
from adprune_keras.record.entry import add_epoch
from adprune_keras.record.lines import read_run
from adprune_keras.text import plain
from adprune_keras.train.callbacks import Recorder


def fit(directory, prune, epochs=4, callbacks=(), x=None):
    recorder = Recorder(directory, header(), lambda: prune.record)
    data = images(40)
    if x is not None:
        data = x, data[1]
    compiled(plain_cnn()).fit(
        *data, batch_size=16, epochs=epochs, verbose=0, callbacks=[prune, recorder, *callbacks]
    )


def kinds(directory):
    lines = (directory / "record.jsonl").read_text().splitlines()
    return [line.split('"')[3] for line in lines]


def small(*epochs):
    return ADPrune(schedule=list(epochs), rule=WidthRule(min_width=2), verbose=0)


def test_a_line_for_each_start_epoch_and_end(tmp_path):
    prune = small(2)
    fit(tmp_path, prune)
    assert kinds(tmp_path) == ["run", "start", "epoch", "net", "start", "epoch", "epoch", "net"]
    found = read_run(tmp_path)
    assert found.nets == [{"kind": "net", **plain(net)} for net in prune.record]


def test_what_a_killed_run_leaves(tmp_path):
    """Killed in the second epoch of net1: net0 and one epoch of net1 are there."""
    script = f"""
import os, signal, pathlib
import keras
from test_recorder import fit, small
kill = lambda epoch, logs: epoch == 3 and os.kill(os.getpid(), signal.SIGKILL)
kill = keras.callbacks.LambdaCallback(on_epoch_begin=kill)
fit(pathlib.Path({str(tmp_path)!r}), small(2), callbacks=[kill])
"""
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    ended = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path})
    assert ended.returncode == -9
    nets = read_run(tmp_path).nets
    assert [(n["net"], n["outcome"], n["epochs"], len(n["logs"]["loss"])) for n in nets] == [
        (0, "pruned", 2, 2),
        (1, "training", 1, 1),
    ]


def test_run_that_goes_on_has_the_record_of_its_state(tmp_path):
    """The record on disk is ahead of the state that training goes on from: one net, one epoch."""
    fit(tmp_path, small(2))
    prune = small(3)

    class Restore(ADPrune):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            add_epoch(self.record[0], {"loss": 1.0, "activation_density": 0.5})

    prune.__class__ = Restore
    recorder = Recorder(tmp_path, header(), lambda: prune.record)
    prune.set_model(compiled(plain_cnn()))
    prune.on_train_begin()
    recorder.on_train_begin()
    assert kinds(tmp_path) == ["run", "start"]
    assert [(n["outcome"], n["epochs"]) for n in read_run(tmp_path).nets] == [("training", 1)]
    add_epoch(prune.record[0], {"loss": 2.0})
    recorder.on_epoch_begin(1)
    recorder.on_epoch_end(1)
    assert read_run(tmp_path).nets[0]["logs"]["loss"] == [1.0, 2.0]


@pytest.mark.filterwarnings("ignore:Training failed")
def test_failure_is_the_last_that_the_record_says(tmp_path):
    prune = small(2)
    fit(tmp_path, prune, x=images(40)[0] * float("nan"))
    (net,) = read_run(tmp_path).nets
    assert (net["outcome"], net["epochs"]) == ("failed", 1)
    assert net["reason"] == prune.record[0]["reason"]
    for line in (tmp_path / "record.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
