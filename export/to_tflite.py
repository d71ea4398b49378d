"""Keras to TFLite through a SavedModel, built-in operations only."""

import tempfile

from adprune_keras.export import metadata
from adprune_keras.export.prepare import INPUT, OUTPUT


def convert(model, path, job):
    """Write a TFLite file: float32, float16 weights, int8 weights, or int8 throughout.

    Args:
        model: inference `keras.Model` of the TensorFlow backend.
        path: where to write.
        job: `convert.Job`.
    """
    import keras
    import tensorflow as tf

    form, shape = job.form, (job.batch_size, *model.inputs[0].shape[1:])
    # A file of int8 throughout gets its pixels as uint8 from the converter, without a cast.
    cast = job.pixels and not form.calibrated
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda image: {OUTPUT: model(tf.cast(image, tf.float32) if cast else image, training=False)},
        [tf.TensorSpec(shape, tf.uint8 if cast else tf.float32, name=INPUT)],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if form.weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form.weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if form.calibrated:
            converter.representative_dataset = lambda: ([image[None]] for image in job.calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8 if job.pixels else tf.int8
            converter.inference_output_type = tf.int8
        content = converter.convert()
    path.write_bytes(metadata.into_tflite(content, job.metadata))
