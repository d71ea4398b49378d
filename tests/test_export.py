import json

import keras
import numpy as np
import pytest
from keras import layers
from toys import compiled, images, plain_cnn, sequential_cnn

pytest.importorskip("tf2onnx")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the converters need Keras on TensorFlow", allow_module_level=True)

from adprune_keras.export import VerificationError, export_model, pipeline
from adprune_keras.export.count import onnx_total, tflite_total
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.runtimes import OnnxFile, TfliteFile

from adprune_keras import cost, models

FILES = ("model.onnx", "model.tflite")


def trained(build):
    model = compiled(build())
    model.fit(*images(80), epochs=3, batch_size=16, verbose=0)
    return model


@pytest.fixture(scope="module")
def small():
    return trained(plain_cnn)


def small_resnet():
    widths = [7, 5, 9, 3, 6, 5, 8, 1, 4, 6, 8, 3, 5, 7, 9, 2, 6]
    return models.ResNet18(input_shape=(8, 8, 1), classes=4, widths=widths)


@pytest.mark.parametrize("build", [small_resnet, plain_cnn, sequential_cnn])
def test_files_are_verified_and_match_the_model(build, tmp_path):
    model, test = trained(build), images(50, seed=1)
    report = export_model(model, tmp_path, ["onnx", "tflite"], test_data=test)
    expected = cost(model).deployed
    accuracy = 100 * model.evaluate(*test, verbose=0)[1]
    for row in report.values():
        assert row["problems"] == []
        assert (row["macs"], row["params"]) == (expected.macs, expected.params)
        assert row["difference"] <= 1e-5
        assert row["accuracy"] == row["keras_accuracy"] == pytest.approx(accuracy, abs=1e-3)
        assert row["images"] == 50
        assert (tmp_path / row["file"]).stat().st_size == row["bytes"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.json", *FILES]
    assert json.loads((tmp_path / "export.json").read_text()) == report


def test_the_file_answers_with_logits_under_the_models_names(tmp_path):
    model = trained(small_resnet)
    export_model(model, tmp_path, ["onnx", "tflite"])
    x = images(3)[0]
    logits = keras.Model(model.input, model.get_layer("logits").output).predict_on_batch(x)
    for file in (OnnxFile(tmp_path / FILES[0]), TfliteFile(tmp_path / FILES[1])):
        assert [(p.name, p.shape) for p in file.inputs] == [("image", (None, 8, 8, 1))]
        assert [(p.name, p.shape) for p in file.outputs] == [("logits", (None, 4))]
        np.testing.assert_allclose(file.run(x), logits, atol=1e-4)
        np.testing.assert_allclose(file.run(x[:1]), logits[:1], atol=1e-4)


def test_counts_by_hand(tmp_path):
    """3x3 conv 1 -> 2 on 8x8 (valid: 6x6), depthwise, Dense 2 -> 3; all biases made non-zero."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(2, 3, bias_initializer="ones", activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, bias_initializer=keras.initializers.Constant(0.5), activation="relu")(
        x
    )
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, bias_initializer="ones")(x))
    macs = 36 * 9 * 2 + 16 * 9 * 2 + 6
    params = (18 + 2) + (18 + 2) + (6 + 3)
    assert (cost(model).deployed.macs, cost(model).deployed.params) == (macs, params)
    export_model(model, tmp_path, ["onnx", "tflite"])
    for total in (onnx_total(tmp_path / FILES[0]), tflite_total(tmp_path / FILES[1])):
        assert (total.macs, total.params) == (macs, params)


def test_softmax_of_its_own_is_left_out_and_a_fused_one_stays():
    assert inference_model(small_resnet()).output_names == ["logits"]
    fused = inference_model(plain_cnn())
    np.testing.assert_allclose(fused.predict_on_batch(images(3)[0]).sum(axis=1), 1, rtol=1e-5)


def test_test_data_in_batches(small):
    x, y = images(20)
    batches = [(x[:12], y[:12]), (x[12:], y[12:])]
    model = inference_model(small)
    whole, parts = pipeline._reference(model, (x, y)), pipeline._reference(model, batches)
    np.testing.assert_allclose(whole[0][2], np.concatenate([p[2] for p in parts]), rtol=1e-5)
    with pytest.raises(ValueError, match="no batch to compare"):
        pipeline._reference(model, [])


def _broken(monkeypatch, change, name="onnx"):
    """Let the converter of a format spoil what it writes."""
    form = pipeline.FORMATS[name]

    def convert(model, path):
        form.convert(model, path)
        change(path)

    monkeypatch.setitem(
        pipeline.FORMATS, name, pipeline.Format(form.file, convert, form.open, form.count)
    )


def _edit(change):
    import onnx

    def edit(path):
        proto = onnx.load(path)
        change(proto.graph)
        onnx.save(proto, path)

    return edit


def _scale_a_weight(graph):
    from onnx import numpy_helper

    tensor = next(t for t in graph.initializer if len(t.dims) == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))


def _rename_output(graph):
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == graph.output[0].name:
                node.output[i] = "other"
    graph.output[0].name = "other"


def _add_a_convolution(graph):
    from onnx import helper, numpy_helper

    image = graph.input[0].name
    weights = numpy_helper.from_array(np.zeros((1, 1, 1, 1), "float32"), "extra_w")
    graph.initializer.append(weights)
    graph.node.append(helper.make_node("Transpose", [image], ["extra_t"], perm=[0, 3, 1, 2]))
    graph.node.append(helper.make_node("Conv", ["extra_t", "extra_w"], ["extra_out"]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_edit(_scale_a_weight), "it differs from Keras by"),
        (_edit(_rename_output), "its outputs are .*'other'"),
        (_edit(_add_a_convolution), "it computes .* MACs, expected"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "the file does not open"),
    ],
)
def test_broken_onnx_is_caught_and_gets_no_name(change, problem, small, tmp_path, monkeypatch):
    _broken(monkeypatch, change)
    (tmp_path / FILES[0]).write_bytes(b"an older file, of another model")
    with pytest.raises(VerificationError, match=f"onnx: {problem}") as error:
        export_model(small, tmp_path, ["onnx", "tflite"], test_data=images(20))
    assert len(error.value.report["onnx"]["problems"]) == 1
    assert error.value.report["tflite"]["problems"] == []
    assert json.loads((tmp_path / "export.json").read_text())["onnx"]["problems"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.json", FILES[1]]


def test_truncated_tflite_is_caught(small, tmp_path, monkeypatch):
    _broken(monkeypatch, lambda p: p.write_bytes(p.read_bytes()[:100]), "tflite")
    with pytest.raises(VerificationError, match="tflite: the file does not open"):
        export_model(small, tmp_path, ["tflite"])


def test_answers_that_are_not_numbers_never_pass(small, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxFile, "run", lambda self, x: np.full((len(x), 4), np.nan, "float32"))
    with pytest.raises(VerificationError, match="not all finite.*differs from Keras by nan"):
        export_model(small, tmp_path, ["onnx"])


def test_accuracy_is_compared(small, tmp_path, monkeypatch):
    run = OnnxFile.run
    monkeypatch.setattr(OnnxFile, "run", lambda self, x: run(self, x)[:, ::-1])
    with pytest.raises(VerificationError, match="its accuracy is .* %, Keras' .* %"):
        export_model(small, tmp_path, ["onnx"], test_data=images(40))


def test_unknown_format_writes_nothing(tmp_path):
    for formats in (["onnx", "coreml"], []):
        with pytest.raises(ValueError, match=r"Unknown export format. Expected one or more of"):
            export_model(plain_cnn(), tmp_path / "out", formats)
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_be_exported(tmp_path):
    model = plain_cnn()
    model.layers[1].kernel.assign(np.full(model.layers[1].kernel.shape, np.nan))
    with pytest.raises(ValueError, match="A weight is not finite. Received: .*conv1/kernel"):
        export_model(model, tmp_path, ["onnx"])
    a, b = keras.Input((8,)), keras.Input((8,))
    two = keras.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match="one input and one output. Received: 2 inputs"):
        export_model(two, tmp_path, ["onnx"])
    half = keras.Sequential([keras.Input((8,)), layers.Dense(2, dtype="mixed_float16")])
    with pytest.raises(ValueError, match="float32 models.*'mixed_float16'"):
        export_model(half, tmp_path, ["onnx"])
    open_size = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(2, 1), layers.GlobalAveragePooling2D()]
    )
    with pytest.raises(ValueError, match="fixed image size. Received: input shape"):
        export_model(open_size, tmp_path, ["onnx"])
    assert list(tmp_path.iterdir()) == []
