import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers
from toys import plain_cnn, sequential_cnn

pytest.importorskip("tf2onnx")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the files are compared with Keras on TensorFlow", allow_module_level=True)

from adprune_keras.export import (
    VerificationError,
    child,
    convert,
    export_model,
    pipeline,
    verify,
)
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.onnx import OnnxFile
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.runtimes import RUNTIMES
from adprune_keras.export.tflite import TfliteFile

from adprune_keras import cost, models
from adprune_keras.counting.sizes import DTYPES


def graded(count, seed=0):
    """Images whose class is their brightness: what a trained net is sure of, flipped or not."""
    y = np.arange(count) % 4
    noise = np.random.default_rng(seed).normal(0, 0.2, (count, 8, 8, 1))
    return (noise + y[:, None, None, None] - 1.5).astype("float32"), y


def trained(build):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.fit(*graded(400), epochs=30, batch_size=16, verbose=0)
    return model


def with_everything():
    """What a copy for inference meets: augmentation, Normalization, dropout, a nested model."""
    augment = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1)], name="augment"
    )
    inputs = keras.Input((8, 8, 1), name="picture")
    x = layers.Normalization(mean=0.1, variance=2.0, axis=None, name="norm")(augment(inputs))
    x = layers.Conv2D(7, 3, use_bias=False, name="conv1")(x)
    x = layers.BatchNormalization(name="bn", momentum=0.5)(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Flatten()(layers.GaussianNoise(0.05)(x))
    x = layers.Dense(33, activation="relu", name="hidden")(layers.Dropout(0.1, name="drop")(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="out")(x), name="everything")


def small_resnet():
    widths = [7, 5, 9, 3, 6, 5, 8, 1, 4, 6, 8, 3, 5, 7, 9, 2, 6]
    return models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=widths)


X, Y = graded(200, seed=1)


class Made:
    """One model, exported to every format and verified."""

    def __init__(self, directory):
        self.directory = directory
        self.trained = trained(with_everything)
        self.report = export_model(
            self.trained, directory, ["all"], (X, Y), X, facts={"net": "net1", "widths": {"conv1": 7}}
        )
        self.model, self.removed = inference_model(self.trained)
        reference = pipeline._reference(self.model, (X, Y), None)
        described = {"net": "net1", "widths": '{"conv1": 7}'}
        self.expected = pipeline.expectation(self.model, cost(self.model), reference, described)

    def problems(self, name, path, **expected):
        """What the checks of a format say of some file."""
        wanted = dataclasses.replace(self.expected, **expected)
        return pipeline.verify(path, FORMATS[name], wanted).problems


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("export"))


def test_every_format_is_verified_and_matches_the_model(made):
    expected = cost(made.trained).deployed
    accuracy = 100 * made.trained.evaluate(X, Y, verbose=0)[1]
    assert list(made.report) == list(FORMATS)
    for name, row in made.report.items():
        path = made.directory / FORMATS[name].file
        assert row["problems"] == []
        assert (row["macs"], row["params"]) == (expected.macs, expected.params)
        assert row["difference"] <= FORMATS[name].difference
        assert row["keras_accuracy"] == pytest.approx(accuracy, abs=1e-3)
        assert row["images"] == 200
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    files = {form.file for form in FORMATS.values()}
    assert {p.name for p in made.directory.iterdir()} == {"export.json", "README_model.md", *files}
    assert json.loads((made.directory / "export.json").read_text()) == made.report
    assert made.report["tflite_int8"]["bytes"] < made.report["tflite"]["bytes"] / 2


def test_names_types_and_metadata_are_canonical(made):
    for name, form in FORMATS.items():
        path = made.directory / form.file
        file = RUNTIMES[form.runtime].open(path)
        assert [(p.name, p.shape, p.dtype) for p in file.inputs] == [("image", (None, 8, 8, 1), form.io)]
        assert [(p.name, p.shape, p.dtype) for p in file.outputs] == [("logits", (None, 4), form.io)]
        facts = RUNTIMES[form.runtime].metadata(path)
        assert (facts["net"], json.loads(facts["widths"]), facts["model"]) == (
            *("net1", {"conv1": 7}, "everything"),
        ), name
        assert facts["package"].startswith("adprune_keras ")


def test_the_card_says_how_to_run_each_file(made):
    """Every code block of README_model.md runs as it stands, where the files lie."""
    blocks = (made.directory / "README_model.md").read_text().split("```python\n")[1:]
    assert len(blocks) == len(FORMATS)
    for block in blocks:
        code = block.split("```")[0]
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=made.directory, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        assert ran.stdout.strip().strip("[]").isdigit()


def test_the_scripts_of_the_docs_classify_as_the_files_do(made, tmp_path):
    text = (pathlib.Path(__file__).parent.parent / "docs" / "export.md").read_text()
    scripts = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert len(scripts) == 2 and all(script.count("\n") < 30 for script in scripts)
    np.save(tmp_path / "images.npy", X[:20])
    for name, form in FORMATS.items():
        path = made.directory / form.file
        code = next(s for s in scripts if {"onnx": "onnxruntime", "tflite": "litert"}[form.runtime] in s)
        command = [sys.executable, "-c", code, str(path), str(tmp_path / "images.npy")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
        expected = np.argmax(RUNTIMES[form.runtime].open(path).run(X[:20]), -1)
        assert json.loads(ran.stdout.splitlines()[-1]) == expected.tolist(), name


# A copy for inference.


def test_the_copy_answers_as_the_model_without_what_only_training_uses(made):
    assert {name.rsplit("_", 1)[0] if name[-1].isdigit() else name for name in made.removed} == {
        *("random_flip", "random_translation", "gaussian_noise", "drop"),
    }
    softmax = keras.ops.softmax(made.model(X))
    np.testing.assert_allclose(softmax, made.trained.predict_on_batch(X), atol=1e-6)
    assert made.model.inputs[0].name == "image"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_becomes_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small_resnet()
    finally:
        keras.config.set_dtype_policy("float32")
    copy, _ = inference_model(model)
    assert {layer.dtype_policy.name for layer in copy.layers} == {"float32"}
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert cost(copy).deployed == cost(model).deployed


@pytest.mark.parametrize("build", [plain_cnn, sequential_cnn, small_resnet])
def test_a_softmax_is_left_out_fused_or_not(build):
    copy, _ = inference_model(build())
    assert float(np.abs(np.sum(copy.predict_on_batch(X[:3]), axis=1) - 1).max()) > 1e-3


class Restless(layers.Layer):
    """Never answers the same."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


def test_models_that_cannot_be_exported(tmp_path):
    model = plain_cnn()
    model.layers[1].kernel.assign(np.full(model.layers[1].kernel.shape, np.nan))
    with pytest.raises(ValueError, match="A weight is not finite. Received: .*conv1/kernel"):
        export_model(model, tmp_path, ["onnx"])
    a, b = keras.Input((8,)), keras.Input((8,))
    two = keras.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match="one input and one output. Received: 2 inputs"):
        export_model(two, tmp_path, ["onnx"])
    open_size = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(2, 1), layers.GlobalAveragePooling2D()]
    )
    with pytest.raises(ValueError, match="fixed image size. Received: input shape"):
        export_model(open_size, tmp_path, ["onnx"])
    restless = keras.Sequential([keras.Input((8,)), Restless(), layers.Dense(2)])
    with pytest.raises(ValueError, match="does not answer as the model does: it differs by"):
        export_model(restless, tmp_path, ["onnx"])
    quantised = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    quantised.quantize("int8")
    with pytest.raises(ValueError, match="Export quantises by itself. Received: layer 'dense"):
        export_model(quantised, tmp_path, ["onnx"])
    assert list(tmp_path.iterdir()) == []


# What goes in besides the model.


def test_unknown_formats_are_named_all_at_once_and_nothing_is_written(tmp_path):
    for formats, named in ((["onnx", "coreml", "xla"], "'coreml', 'xla'"), ([], "")):
        with pytest.raises(ValueError, match=rf"Unknown export format.*Received: \[{named}\]"):
            export_model(plain_cnn(), tmp_path / "out", formats)
    assert not (tmp_path / "out").exists()
    assert resolve(["tflite", "all"]) == list(FORMATS)


def test_the_predicted_sizes_are_of_the_same_formats():
    assert {name: form.weights for name, form in FORMATS.items()} == DTYPES
    assert {form.runtime for form in FORMATS.values()} == set(RUNTIMES)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "int8 formats need `calibration_data`"),
        (np.zeros((0, 8, 8, 1), "float32"), r"Received: 0 of shape"),
        (np.zeros((5, 8, 8, 3), "float32"), r"must hold images of shape \(8, 8, 1\).*\(8, 8, 3\)"),
        (np.full((5, 8, 8, 1), np.nan, "float32"), "must be finite"),
        (np.full((5, 8, 8, 1), -np.inf, "float32"), "must be finite"),
        (np.full((5, 8, 8, 1), "a"), "dtype <U1"),
    ],
)
def test_calibration_data_is_checked(calibration, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_model(plain_cnn(), tmp_path / "out", ["tflite_int8"], X, calibration)
    assert not (tmp_path / "out").exists()


def test_calibration_is_drawn_from_training_data_by_the_seed():
    model, _ = inference_model(plain_cnn())
    data = np.arange(12000, dtype="float32")[:, None, None, None] * np.ones((8, 8, 1), "float32")
    batches = [(data[i : i + 100], np.zeros(100)) for i in range(0, 12000, 100)]
    first, again, other = (pipeline._calibration(batches, model, None, s) for s in (0, 0, 1))
    assert len(first) == 1000 and first.max() < 10000
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_test_data_is_checked(tmp_path):
    model = trained(plain_cnn)
    accuracy = 100 * model.evaluate(X, Y, verbose=0)[1]
    shuffled = (X, (Y + 1) % 4)
    for data in (shuffled, (X * 0 + 3, Y)):  # labels shuffled; another scaling
        with pytest.raises(ValueError, match=f"reaches .* but {accuracy:.2f} % in its training"):
            export_model(model, tmp_path / "out", ["onnx"], data, expected_accuracy=accuracy)
    with pytest.raises(ValueError, match="no batch to compare"):
        export_model(model, tmp_path / "out", ["onnx"], [])
    with pytest.raises(ValueError, match=r"do not fit the model. Received: shape \(4, 4, 1\)"):
        export_model(model, tmp_path / "out", ["onnx"], np.zeros((2, 4, 4, 1)))
    assert not (tmp_path / "out").exists()


def test_pixels_in_a_fixed_batch(tmp_path):
    """uint8 in, normalised inside the graph; the batch is 1."""
    model = trained(plain_cnn)
    mean, std = np.float32([120.0]), np.float32([60.0])
    pixels = np.clip(np.round(X[:150] * std + mean), 0, 255).astype("uint8")
    scaled = (pixels - mean) / std
    formats = ["onnx", "onnx_int8", "tflite", "tflite_int8"]
    labels = np.argmax(model.predict_on_batch(scaled), axis=1)
    report = export_model(
        *(model, tmp_path, formats, (scaled, labels), scaled),
        batch_size=1,
        normalization=(mean, std),
    )
    logits = inference_model(model)[0].predict_on_batch(scaled[:5])
    for name, row in report.items():
        file = RUNTIMES[FORMATS[name].runtime].open(tmp_path / row["file"])
        assert [(p.shape, p.dtype) for p in file.inputs] == [((1, 8, 8, 1), "uint8")]
        answers = np.concatenate([file.run(pixels[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(answers, logits, atol=np.abs(logits).max() * 0.05)


# Files that are broken on purpose: each is caught by its own check and by nothing else.


def edit_onnx(change):
    import onnx

    def edit(path):
        proto = onnx.load(path)
        change(proto)
        onnx.save(proto, path)

    return edit


def scale_a_weight(proto, factor=1.001):
    from onnx import numpy_helper

    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))


def rename_output(proto):
    graph = proto.graph
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == graph.output[0].name:
                node.output[i] = "other"
    graph.output[0].name = "other"


def add_an_input(proto):
    from onnx import TensorProto, helper

    proto.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))


def drop_a_layer(proto):
    """Put the identity in place of the depthwise convolution."""
    from onnx import helper

    for i, node in enumerate(proto.graph.node):
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute):
            proto.graph.node.insert(i, helper.make_node("Identity", [node.input[0]], list(node.output)))
            proto.graph.node.remove(node)
            return


def foreign_operation(proto):
    from onnx import helper

    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node = helper.make_node("Gelu", [proto.graph.output[0].name], ["unused"], domain="com.microsoft")
    proto.graph.node.append(node)


def lie(proto):
    next(p for p in proto.metadata_props if p.key == "net").value = "net0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edit_onnx(scale_a_weight), "it differs from Keras by .* allowed 1e-05"),
        (edit_onnx(lambda proto: scale_a_weight(proto, np.nan)), "its answers are not all finite"),
        (edit_onnx(rename_output), "its outputs are .*'other'"),
        (edit_onnx(add_an_input), "its inputs are .*'extra'"),
        (
            edit_onnx(foreign_operation),
            r"it needs operations beyond the built-in ones: \['com.microsoft.Gelu'\]",
        ),
        (edit_onnx(lie), "its metadata are wrong or missing: {'net': 'net0'}"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "the file does not open"),
    ],
)
def test_broken_onnx(change, problem, made, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes((made.directory / "model.onnx").read_bytes())
    assert made.problems("onnx", path) == []
    change(path)
    (found,) = made.problems("onnx", path)
    assert re.match(problem, found), found


def test_a_dropped_layer_shows_in_its_macs(made, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes((made.directory / "model.onnx").read_bytes())
    edit_onnx(drop_a_layer)(path)
    first = made.problems("onnx", path)[0]
    macs = made.expected.macs
    assert re.match(rf"it computes {macs - 36 * 9 * 7:,} MACs .* expected {macs:,}", first), first


def test_another_precision_than_the_name_says(made):
    """float32 sold as int8; and a file of int8 throughout that answers in float32."""
    (found,) = made.problems("onnx_int8", made.directory / "model.onnx")
    assert re.match("its weights are stored as {'float32': .*expected int8", found)
    found = made.problems("tflite_int8", made.directory / "model_dynamic.tflite")
    assert [f.split(" are ")[0] for f in found[-2:]] == ["its inputs", "its outputs"]


def test_truncated_tflite(made, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((made.directory / "model.tflite").read_bytes()[:3000])
    (found,) = made.problems("tflite", path)
    assert found.startswith("the file does not open")


def test_wrong_normalisation_of_the_file(made):
    """The file takes pixels of another scale than the reference was computed with."""
    batches = [(x * 1.01, y, logits) for x, y, logits in made.expected.batches]
    (found, *_) = made.problems("onnx", made.directory / "model.onnx", batches=batches)
    assert found.startswith("it differs from Keras")


def test_accuracy_is_compared(made, monkeypatch):
    ran = OnnxFile.run
    monkeypatch.setattr(OnnxFile, "run", lambda self, x: ran(self, x)[:, ::-1])
    batches = [(x, np.argmax(logits, -1), logits) for x, _, logits in made.expected.batches]
    found = made.problems("onnx", made.directory / "model.onnx", batches=batches)
    assert re.match(r"its accuracy is .* %, Keras' 100.00 % \(allowed: 0.1 points less\)", found[-1])
    path = made.directory / "model.onnx"
    assert made.problems("onnx", path, batches=batches, points=100.0) == found[:-1]


def test_classes_that_keras_is_sure_of_are_kept():
    """1,000 images, 20 with a clear class, 5 of which come out wrong: 0.5 % of all, 25 % of those."""
    logits = np.zeros((1000, 3))
    logits[:, 0] = 0.01
    logits[:20, 0] = 1.0
    ours = logits.copy()
    ours[20:, 1] = 0.02  # a tie that goes the other way is none of the sure ones
    verdict, form = verify.Verdict(), FORMATS["tflite_int8"]
    verify._check_difference(verdict, ours, logits, 1.0, form)
    assert verdict.problems == [] and verdict.agreement == 2.0
    ours[:5] = [0.0, 1.0, 0.0]
    verify._check_difference(verdict, ours, logits, 1.0, form)
    (found,) = verdict.problems
    assert found.startswith("it puts 75.00 % of the 20 images whose class leads")


def test_answers_that_depend_on_the_batch(made, monkeypatch):
    ran = TfliteFile.run
    monkeypatch.setattr(TfliteFile, "run", lambda self, x: ran(self, x) + (len(x) == 1))
    (found,) = made.problems("tflite", made.directory / "model.tflite")
    assert found.startswith("its answers change with the batch size")


def test_a_file_that_fails_never_gets_its_name(made, tmp_path, monkeypatch):
    """An older file under that name is not of this model, and goes; the other formats are written."""

    def convert_and_break(model, formats, folder, *settings):
        for name in formats:
            source = made.directory / FORMATS[name].file
            (pathlib.Path(folder) / FORMATS[name].file).write_bytes(source.read_bytes())
        edit_onnx(scale_a_weight)(pathlib.Path(folder) / "model.onnx")
        return {"tflite_float16": "the converter died of signal SIGSEGV"}

    monkeypatch.setattr(convert, "convert", convert_and_break)
    for name in ("onnx", "tflite_float16"):
        (tmp_path / FORMATS[name].file).write_bytes(b"an older file, of another model")
    formats = ["onnx", "tflite", "tflite_float16"]
    with pytest.raises(VerificationError, match=r"onnx: it differs.*float16: the converter died") as e:
        facts = {"net": "net1", "widths": {"conv1": 7}}
        export_model(made.trained, tmp_path, formats, (X, Y), facts=facts)
    assert e.value.report["tflite"]["problems"] == []
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["README_model.md", "export.json", "model.tflite"]
    assert "`model.onnx` was not written" in (tmp_path / "README_model.md").read_text()


# The process that converts.


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("real_child")
def test_a_converter_that_dies_or_hangs_is_one_error_and_the_rest_goes_on(tmp_path, monkeypatch):
    model, _ = inference_model(plain_cnn())
    settings = (None, False, None, {})
    die = script(tmp_path / "die", "kill -SEGV $$")
    monkeypatch.setattr(convert.sys, "executable", die)
    errors = convert.convert(model, ["onnx", "tflite"], tmp_path, *settings)
    assert errors == dict.fromkeys(["onnx", "tflite"], "the converter died of signal SIGSEGV")
    done = """echo '["onnx", null]' >> $4/results.jsonl; echo out of order; exit 7"""
    monkeypatch.setattr(convert.sys, "executable", script(tmp_path / "half", done))
    errors = convert.convert(model, ["onnx", "tflite"], tmp_path, *settings)
    assert errors == {"tflite": "the converter ended with exit status 7: out of order"}
    monkeypatch.setattr(convert.sys, "executable", script(tmp_path / "hang", "sleep 60"))
    begin = time.monotonic()
    errors = convert.convert(model, ["onnx"], tmp_path, *settings, time_limit=0.5)
    assert errors == {"onnx": "the converter did not end within 0 s"}
    assert time.monotonic() - begin < 30


def test_children_run_nothing_of_the_working_directory(tmp_path, monkeypatch):
    """Whether it is named, empty or absolute on the path of this process."""
    here, elsewhere, packages = tmp_path / "here", tmp_path / "elsewhere", tmp_path / "packages"
    for folder in (here, elsewhere, packages):
        folder.mkdir()
    for name in ("json", "flatbuffers", "usercustomize", "sitecustomize", "theirs"):
        (here / f"{name}.py").write_text("print('theirs ran')")
    (packages / "ours.py").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}.")
    places = ["", ".", str(here), str(packages), *sys.path]
    monkeypatch.setattr(sys, "path", places)
    code = """
import json, ours, sys
try:
    import theirs
except ImportError:
    print("not found")
"""
    done = child.run(["-c", code], elsewhere, 60, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("not found\n", "")


def test_what_the_converters_cannot_do_is_said(tmp_path):
    """An operation that neither has: tf2onnx would write an invalid file, TFLite ask for Flex."""
    inputs = keras.Input((8, 8, 1))
    x = keras.ops.erfinv(keras.ops.tanh(layers.Conv2D(2, 3)(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    with pytest.raises(VerificationError) as error:
        export_model(model, tmp_path, ["onnx", "tflite"])
    onnx, tflite = (error.value.report[name]["problems"] for name in ("onnx", "tflite"))
    assert len(onnx) == len(tflite) == 1
    assert re.search("Erfinv|does not open", onnx[0])
    assert "converter failed" in tflite[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README_model.md", "export.json"]


@pytest.mark.usefixtures("real_child")
def test_bytes_repeat_and_counts_are_right_by_hand(tmp_path):
    """3x3 conv 1 -> 2 on 8x8 (valid: 6x6), depthwise, Dense 2 -> 3; all biases made non-zero."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(2, 3, bias_initializer="ones", activation="relu")(inputs)
    half = keras.initializers.Constant(0.5)
    x = layers.DepthwiseConv2D(3, bias_initializer=half, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, bias_initializer="ones")(x))
    macs = 36 * 9 * 2 + 16 * 9 * 2 + 6
    weights, biases = 18 + 18 + 6, 2 + 2 + 3
    assert (cost(model).deployed.macs, cost(model).deployed.params) == (macs, weights + biases)
    first, again = (export_model(model, tmp_path / n, ["onnx", "tflite"]) for n in ("one", "two"))
    assert {n: row["sha256"] for n, row in first.items()} == {n: r["sha256"] for n, r in again.items()}
    for name, runtime in RUNTIMES.items():
        found = runtime.count(tmp_path / "one" / FORMATS[name].file)
        assert (found.macs, found.weights, found.biases) == (macs, weights, biases)
        assert found.dtypes == {"float32": weights}


def test_shared_and_transposed_layers_are_counted_by_hand(tmp_path):
    """A shared layer computes twice and is stored once; a transposed one runs at each place it reads."""
    inputs = keras.Input((8, 8, 1), name="image")
    shared = layers.Conv2D(1, 3, padding="same", bias_initializer="ones", activation="relu")
    x = shared(shared(inputs))
    x = layers.Conv2DTranspose(3, 2, strides=2, bias_initializer="ones", activation="relu")(x)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, bias_initializer="ones")(x))
    macs = 2 * 64 * 9 + 64 * 4 * 3 + 256 * 9 * 3 * 4 + 4 * 3
    weights, biases = 9 + 4 * 3 + 9 * 3 * 4 + 4 * 3, 1 + 3 + 3
    export_model(model, tmp_path, ["onnx", "tflite"])
    for name, runtime in RUNTIMES.items():
        found = runtime.count(tmp_path / FORMATS[name].file)
        assert (found.macs, found.weights, found.biases) == (macs, weights, biases)
