"""Keras to TFLite through a SavedModel, built-in operations only."""

import tempfile

from adprune_keras.export.prepare import names


def convert(model, path):
    """Write a float32 TFLite file with a dynamic batch and the model's own names.

    Args:
        model: inference `keras.Model` of the TensorFlow backend.
        path: where to write.
    """
    import keras
    import tensorflow as tf

    name, output = names(model)
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name=name)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", lambda image: {output: model(image, training=False)}, [spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())
