"""The two commands: a run on the digits, its export, and what they refuse.

One of each kind is a process of its own, as users start it; the others run in this one, where TensorFlow
is imported already.
"""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from toys import compiled, eager_compile, flags_of, images, plain_cnn

pytest.importorskip("tensorflow")

from adprune_keras import cost, layer_widths
from adprune_keras.cli import command
from adprune_keras.cli import export as export_command
from adprune_keras.cli import train as train_command
from adprune_keras.record.directory import create_directory, model_path
from adprune_keras.record.entry import open_entry
from adprune_keras.record.lines import read_record, read_run
from adprune_keras.report.write import write_report
from adprune_keras.text import plain
from adprune_keras.train import recipe
from adprune_keras.train.callbacks import Dense

TINY = (
    *("--dataset=digits", "--train_examples=300", "--network=VGG11", "--width_scale=0.0625"),
    *("--epochs=4", "--batch_size=50", "--prune_at=2", "--min_width=2"),
)


EXPORT = ("--export=tflite",) if keras.backend.backend() == "tensorflow" else ()


def process(name, *flags):
    """Start a command as a process."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from adprune_keras.cli import {name}; {name}.main()", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        | {"KERAS_BACKEND": keras.backend.backend()},
    )


def here(name, *flags):
    """Carry out a command in this process; return what it prints at its end, or `None`."""
    module, act = {
        "train": (train_command, train_command.act),
        "export": (export_command, export_command._act),
    }[name]
    try:
        with flags_of(module), pytest.MonkeyPatch.context() as patch:
            patch.setattr(*eager_compile())
            command.attempt(f"adprune-{name}", act, command.parse([f"adprune-{name}", *flags]))
    except SystemExit as e:
        return e.code
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "digits"
    ran = process("train", *TINY, f"--run_dir={directory}")
    out, err = ran.communicate()
    assert ran.returncode == 0, err[-3000:]
    assert err == ""  # TensorFlow's chatter neither
    return directory, out


def test_a_run_leaves_its_artefacts(finished):
    directory, out = finished
    assert sorted(p.name for p in directory.iterdir()) == [
        *("density.png", "final.keras", "flags.txt", "maps.npz", "record.jsonl", "summary.md"),
    ]
    table = (directory / "summary.md").read_text()
    assert table in out
    epochs = [line for line in out.splitlines() if "activation_density: " in line]
    assert len(epochs) == 4 and all(line.startswith("6/6 - ") for line in epochs)
    assert out.count("ADPrune: after epoch 2: net0 -> net1, pruned to ") == 1
    assert table.splitlines()[2].startswith("| net0 | [4, 8, 16, 16, 32, 32, 32, 32] ")
    header, first, second, result = read_record(directory)
    assert [e["kind"] for e in (header, first, second, result)] == ["run", "net", "net", "result"]
    assert header["flags"]["prune_at"] == ["2"]
    assert header["data"]["input_shape"] == [8, 8, 1]
    assert (first["epochs"], second["epochs"], result["epochs"]) == (2, 2, 4)
    model = keras.models.load_model(directory / "final.keras")
    assert layer_widths(model) == second["widths"]
    assert result["val_accuracy"] == second["logs"]["val_accuracy"][-1]


def test_flags_read_back_as_a_flagfile(finished, tmp_path):
    directory, _ = finished
    said = here("train", f"--flagfile={directory / 'flags.txt'}", f"--run_dir={tmp_path / 'again'}")
    assert said is None
    (ours, net, *_), (theirs, other, *_) = map(read_record, (directory, tmp_path / "again"))
    assert ours["flags"] | {"run_dir": None} == theirs["flags"] | {"run_dir": None}
    # the same seed: equal but for the order in which threads add up
    assert net["logs"]["loss"][0] == pytest.approx(other["logs"]["loss"][0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs the converters")
def test_export_of_a_run(finished):
    directory, _ = finished
    ran = process("export", f"--run_dir={directory}", "--formats=onnx,tflite", "--latency")
    out, err = ran.communicate()
    assert ran.returncode == 0, err[-3000:]
    assert out.count("| verified |") == 2
    assert "Run on 360 images" in out
    report = json.loads((directory / "export" / "export.json").read_text())
    accuracy = 100 * read_record(directory)[-1]["val_accuracy"]
    assert report["onnx"]["accuracy"] == pytest.approx(accuracy, abs=1e-3)
    timed = json.loads((directory / "export" / "latency.json").read_text())
    last = read_run(directory).nets[-1]
    assert timed["ops_reduction"] == pytest.approx(last["ops_reduction"])
    assert {"before", "pruned"} <= timed["formats"]["onnx"].keys()
    assert "times as fast" in out


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs the converters")
def test_half_precision(tmp_path, capsys):
    """Trained and pruned under a mixed policy; what is exported is float32 again."""
    flags = ("--dtype_policy=mixed_bfloat16", f"--run_dir={tmp_path / 'half'}", "--export=tflite")
    assert here("train", *TINY, *flags) is None
    assert "| tflite | float32   | verified |" in capsys.readouterr().out
    model = keras.models.load_model(tmp_path / "half" / "final.keras")
    assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert len(read_run(tmp_path / "half").nets) == 2


@pytest.mark.slow
def test_a_silent_run_and_what_tensorboard_reads_of_it(tmp_path):
    pytest.importorskip("tensorboard")
    directory = tmp_path / "run"
    ran = process("train", *TINY, f"--run_dir={directory}", "--verbose=0", "--tensorboard", *EXPORT)
    assert ran.communicate() == ("", "")
    assert ran.returncode == 0
    assert sorted(p.name for p in (directory / "tensorboard").iterdir()) == [
        *("net0", "net1", "train", "validation"),
    ]
    assert read_run(directory).result["epochs"] == 4
    old = {path.name for path in directory.glob("tensorboard/*/events*")}
    create_directory(directory, resume=True)
    assert {path.name for path in directory.glob("tensorboard/*/events*")} == old
    create_directory(directory, overwrite=True)
    assert not list(directory.glob("tensorboard/*/events*"))


def test_what_the_commands_refuse(finished, tmp_path):
    """One line on stderr, exit status 1, and nothing touched."""
    directory, _ = finished
    before = {p: p.stat().st_mtime_ns for p in directory.rglob("*")}
    (tmp_path / "bad.npz").write_bytes(b"not an npz")
    (tmp_path / "empty").mkdir()
    new = f"--run_dir={tmp_path / 'new'}"
    cases = {
        ("train", f"--run_dir={directory}"): "already holds a run",
        ("export", f"--run_dir={tmp_path / 'empty'}"): "is not a run directory",
        ("train", new, f"--dataset={tmp_path / 'bad.npz'}"): "An .npz data set holds the arrays",
        ("train", new, "--widths=8,8"): "VGG19 has 16 layers that own a width",
        ("train", new, "--rho=-1"): "`rho` is a change of AE",
        ("train", new, "--network=VGG9"): "value should be one of <VGG11|",
        ("train", new, "--dataset=cifar01"): "'cifar01', which is none of them. Did you mean 'cifar10'",
        ("export", f"--run_dir={directory}", "--formats=coreml"): "Unknown export format",
        ("export", f"--model={directory / 'flags.txt'}"): "must be an existing .keras file",
        ("export", f"--model={directory / 'final.keras'}", "--latency"): "--model with --latency needs "
        "--baseline",
    }
    whole = [process(*arguments) for arguments in list(cases)[:2]]
    for ran, message in zip(whole, cases.values(), strict=False):
        _, err = ran.communicate()
        assert ran.returncode == 1, (message, err)
        assert message in err
        assert "Traceback" not in err
    for arguments, message in cases.items():
        said = here(*arguments)
        assert message in said and said.startswith(f"adprune-{arguments[0]}: ")
        assert len(said.splitlines()) == 1
    assert before.items() <= {p: p.stat().st_mtime_ns for p in directory.rglob("*")}.items()
    assert not (tmp_path / "new").exists()


def test_training_that_fails(tmp_path):
    """Exit status 1 and one line; the record says so, and what needs a trained net says so too."""
    directory = tmp_path / "run"
    bad = ("--learning_rate=1e30", "--momentum=0", "--weight_decay=0", "--lr_schedule=constant")
    ran = process("train", *TINY, *bad, f"--run_dir={directory}")
    _, err = ran.communicate()
    assert ran.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith("adprune-train: Training failed in epoch 1: the loss is ")
    assert "Traceback" not in err and err.count("Training failed") == 1
    assert sorted(p.name for p in directory.iterdir()) == ["backup", "flags.txt", "record.jsonl"]
    found = read_run(directory)
    assert (found.nets[-1]["outcome"], found.nets[-1]["epochs"], found.result) == ("failed", 1, None)
    assert last == f"adprune-train: Training {found.nets[-1]['reason']}"
    with pytest.raises(ValueError, match=r"has no final.keras: did its training end\?"):
        model_path(directory)
    assert {p.name for p in write_report([directory])} >= {"tables.md", "figure2.svg"}


@pytest.mark.parametrize("rate", [0.05, 1e30])
@pytest.mark.filterwarnings("ignore:Training failed")
def test_dense_run_has_a_record_and_fails_as_a_pruned_one_does(rate):
    model = compiled(plain_cnn(), learning_rate=rate)
    dense = Dense(open_entry(layer_widths(model), 0, 0, cost(model), cost(model)))
    history = model.fit(*images(40), batch_size=16, epochs=2, verbose=0, callbacks=[dense])
    (net,) = dense.record
    assert (net["epochs"], net["outcome"]) == ((2, "final") if rate < 1 else (1, "failed"))
    if rate < 1:
        assert net["logs"] == history.history
        assert net["reason"] == "dense: --noprune"
    else:
        assert net["reason"].startswith("failed in epoch 1: the loss is ")


def test_learning_rates():
    assert [recipe.learning_rate_at("cosine", 0.1, e, 10) for e in (0, 5)] == pytest.approx([0.1, 0.05])
    assert [recipe.learning_rate_at("step", 1.0, e, 8) for e in (0, 3, 4, 6)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert recipe.learning_rate_at("constant", 0.3, 9, 10) == 0.3


IMPORT_ALONE = """
import sys
sys.modules["tensorflow"] = None
import adprune_keras, numpy as np
from adprune_keras import models, cost, layer_widths, resize
model = models.ResNet18(input_shape=(8, 8, 1), widths=[4] * 17)
small = resize(model, {"stem_conv": 3})
assert small.predict(np.ones((1, 8, 8, 1), "float32"), verbose=0).shape == (1, 10)
print(cost(small).paper.macs, len(layer_widths(small)))
"""


def test_import_where_tensorflow_is_absent():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split()[-1] == "17"


def test_images_of_the_record_are_plain():
    assert plain({"a": (np.float64("nan"), 1)}) == {"a": [None, 1]}
