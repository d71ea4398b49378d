"""Keras to ONNX by tf2onnx, batch norms folded, NHWC input as the model has it."""

from adprune_keras.export.prepare import names

OPSET = 17  # 18 is tf2onnx's highest and costs one more Transpose


def convert(model, path):
    """Write a float32 ONNX file with a named, dynamic batch.

    Args:
        model: inference `keras.Model` of the TensorFlow backend.
        path: where to write.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    shape = (None, *model.inputs[0].shape[1:])
    signature = [tf.TensorSpec(shape, tf.float32, name=names(model)[0])]
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, path)
