"""What goes wrong on the obvious ways to ONNX and TFLite, and that it cannot pass through ours.

Each test walks into the trap first, through Keras', TensorFlow's or tf2onnx' own functions.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from toys import images, plain_cnn

pytest.importorskip("tf2onnx")
if keras.backend.backend() != "tensorflow":
    pytest.skip("export needs the converters", allow_module_level=True)

import onnx
import tensorflow as tf
from adprune_keras.export import VerificationError, convert, export_model, pipeline
from adprune_keras.export.formats import FORMATS
from adprune_keras.export.prepare import inference_model
from adprune_keras.export.runtimes import RUNTIMES
from adprune_keras.export.verify import verify

from adprune_keras import cost

X, _ = images(64)
DEPRECATED = r"(?s).*tf\.lite\.Interpreter is deprecated"
numpy = keras.ops.convert_to_numpy


def problems(path, name, model):
    """What verification says of a file that another way has made of a model."""
    graph, _ = inference_model(model)
    reference = pipeline._reference(graph, (X, None), None)
    return verify(path, FORMATS[name], pipeline.expectation(graph, cost(graph), reference, {})).problems


def on_top(*operations):
    """A model: the operations, a convolution, a Dense layer."""
    inputs = x = keras.Input((8, 8, 1))
    for operation in operations:
        x = operation(x)
    x = layers.Conv2D(2, 3, activation="relu", bias_initializer="ones")(x)
    model = keras.Model(inputs, layers.Dense(3, bias_initializer="ones")(layers.Flatten()(x)))
    model(X, training=False)
    return model


def keras_export(model, path):
    model.export(path, format={".onnx": "onnx", ".tflite": "litert"}[path.suffix], verbose=False)
    return path


@pytest.fixture
def onnx_path(tmp_path):
    return tmp_path / "naive.onnx"


@pytest.fixture
def tflite_path(tmp_path):
    return tmp_path / "naive.tflite"


def test_1_a_loaded_model_was_never_called(tmp_path, onnx_path):
    plain_cnn().save(tmp_path / "saved.keras")
    loaded = keras.models.load_model(tmp_path / "saved.keras")
    with pytest.raises(ValueError, match="never called"):
        keras_export(loaded, onnx_path)
    assert export_model(loaded, tmp_path, ["onnx"])["onnx"]["problems"] == []


def test_2_augmentation_puts_what_follows_into_training_mode(tmp_path):
    model = on_top(layers.RandomTranslation(0.3, 0.3), layers.Dropout(0.9))
    model.export(tmp_path / "saved", verbose=False)
    saved, expected = tf.saved_model.load(tmp_path / "saved"), model.predict(X, verbose=0)
    assert not np.allclose(numpy(saved.serve(X)), expected, atol=1e-2)
    report = export_model(model, tmp_path, ["onnx", "tflite"], (X, None))
    assert all(row["difference"] < 1e-5 for row in report.values())


def test_3_normalization_becomes_extra_inputs(tmp_path, onnx_path):
    model = on_top(layers.Normalization(mean=0.1, variance=2.0, axis=None))
    keras_export(model, onnx_path)
    assert len(onnx.load(onnx_path).graph.input) == 3
    assert any(p.startswith("its inputs are") for p in problems(onnx_path, "onnx", model))
    sequential = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Normalization(mean=0.1, variance=2.0, axis=None)]
    )
    for head in (layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)):
        sequential.add(head)
    for each in (model, sequential):
        assert export_model(each, tmp_path, ["onnx"])["onnx"]["problems"] == []


def test_4_and_6_operations_that_a_format_lacks(tmp_path, onnx_path, tflite_path):
    """tf2onnx writes an invalid file and returns; LiteRT's export asks for TensorFlow's own kernels."""
    model = on_top(lambda x: keras.ops.qr(x)[0])
    (found, *_) = problems(keras_export(model, onnx_path), "onnx", model)
    assert found.startswith("the file does not open")
    (found,) = problems(keras_export(model, tflite_path), "tflite", model)
    assert "Select TensorFlow op" in found
    with pytest.raises(VerificationError, match="onnx: the.*; tflite: the converter failed"):
        export_model(model, tmp_path / "out", ["onnx", "tflite"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README_model.md", "export.json"]


def test_5_concrete_functions_lose_the_weights(tflite_path):
    model = plain_cnn()
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")
    function = tf.function(lambda image: {"logits": model(image, training=False)})
    functions = [function.get_concrete_function(spec)]
    tflite_path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions(functions, model).convert())
    found = problems(tflite_path, "tflite", model)
    assert found[0].startswith("it computes 0 MACs with 0 weights")
    assert found[-1] == "its answers are not all finite"


def test_7_mixed_precision(tmp_path, onnx_path, tflite_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = plain_cnn()
    finally:
        keras.config.set_dtype_policy("float32")
    model(X, training=False)
    found = problems(keras_export(model, onnx_path), "onnx", model)
    assert found[0] == "its weights are stored as {'float16': 840}, expected float32"
    (found,) = problems(keras_export(model, tflite_path), "tflite", model)
    assert "Select TensorFlow op" in found
    report = export_model(model, tmp_path, ["onnx", "tflite"])
    assert not any(row["problems"] for row in report.values())


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_8_weights_that_are_not_finite(suffix, tmp_path):
    right, model = plain_cnn(), plain_cnn()
    kernel = model.layers[1].kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    model(X, training=False)
    path = keras_export(model, tmp_path / f"naive.{suffix}")
    assert problems(path, suffix, right)[-1] == "its answers are not all finite"
    with pytest.raises(ValueError, match="A weight is not finite"):
        export_model(model, tmp_path, [suffix])


@pytest.mark.usefixtures("real_child")
def test_9_calibration_data(tmp_path, tflite_path):
    """None at all: a float32 file. NaN and infinities kill the converter or give no file of ours."""
    model, _ = inference_model(plain_cnn())
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter([])
    tflite_path.write_bytes(converter.convert())
    found = problems(tflite_path, "tflite_int8", model)
    assert found[0] == "its weights are stored as {'float32': 840}, expected int8"
    for bad in (np.nan, -np.inf):
        images = np.full((2, 8, 8, 1), bad, "float32")
        folder = tmp_path / str(bad)
        folder.mkdir()
        errors = convert.convert(model, ["tflite_int8"], folder, None, False, images, {})
        assert errors or problems(folder / "model_int8.tflite", "tflite_int8", model)
        with pytest.raises(ValueError, match="must be finite"):
            export_model(model, tmp_path / "out", ["tflite_int8"], X, images)


def test_10_unknown_keywords_and_a_fixed_batch(tmp_path, onnx_path):
    model = plain_cnn()
    model(X, training=False)
    model.export(onnx_path, format="onnx", verbose=False, batch_size=1, nonsense=True)
    batch = onnx.load(onnx_path).graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param and not batch.dim_value
    with pytest.raises(TypeError, match="nonsense"):
        export_model(model, tmp_path, ["onnx"], nonsense=True)
    export_model(model, tmp_path, ["onnx"], batch_size=1)
    made = onnx.load(tmp_path / "model.onnx").graph.input[0]
    assert made.type.tensor_type.shape.dim[0].dim_value == 1


def test_11_and_12_counts_come_from_the_graph_not_from_a_runtime(tmp_path):
    """Counters on the index disagree (not ours); an interpreter lists an operation that no file has."""
    from ai_edge_litert.interpreter import Interpreter

    model = plain_cnn()
    export_model(model, tmp_path, ["onnx", "tflite"])
    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    assert "DELEGATE" in [row["op_name"] for row in interpreter._get_ops_details()]
    deployed = cost(model).deployed
    for name, runtime in RUNTIMES.items():
        assert runtime.count(tmp_path / FORMATS[name].file).macs == deployed.macs
    with pytest.warns(UserWarning, match=DEPRECATED):
        tf.lite.Interpreter(model_path=str(tmp_path / "model.tflite"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=DEPRECATED)
        assert not problems(tmp_path / "model.tflite", "tflite", model)


@pytest.mark.slow
@pytest.mark.usefixtures("real_child")
def test_13_bytes_of_two_conversions(tmp_path):
    model = plain_cnn()
    model(X, training=False)
    first, again = (keras_export(model, tmp_path / f"{n}.onnx").read_bytes() for n in "ab")
    assert first != again
    first, again = (export_model(model, tmp_path / n, ["onnx"])["onnx"]["sha256"] for n in "ab")
    assert first == again
