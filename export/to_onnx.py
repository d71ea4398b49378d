"""Keras to ONNX by tf2onnx, batch norms folded, NHWC input as the model has it."""

import tempfile

from adprune_keras.export.prepare import INPUT, OUTPUT

OPSET = 17  # 18 is tf2onnx's highest and costs one more Transpose


def convert(model, path, job):
    """Write an ONNX file, float32 or int8 by static quantisation.

    Args:
        model: inference `keras.Model` of the TensorFlow backend.
        path: where to write.
        job: `convert.Job`.
    """
    import onnx

    proto = _float32(model, job)
    if job.form.calibrated:
        proto = _quantised(proto, job.calibration.astype("uint8") if job.pixels else job.calibration)
    onnx.helper.set_model_props(proto, job.metadata)
    onnx.save(proto, path)


def _float32(model, job):
    import tensorflow as tf
    import tf2onnx

    shape = (job.batch_size, *model.inputs[0].shape[1:])
    if job.pixels:

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name=INPUT)])
        def serve(image):
            return {OUTPUT: model(tf.cast(image, tf.float32), training=False)}

        proto, _ = tf2onnx.convert.from_function(
            serve, input_signature=serve.input_signature, opset=OPSET
        )
    else:
        signature = [tf.TensorSpec(shape, tf.float32, name=INPUT)]
        proto, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=OPSET)
    _rename(proto.graph, proto.graph.input[0], INPUT)
    _rename(proto.graph, proto.graph.output[0], OUTPUT)
    for value in (*proto.graph.input, *proto.graph.output):
        if job.batch_size is None:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


def _rename(graph, port, name):
    old, port.name = port.name, name
    for node in graph.node:
        for names in (node.input, node.output):
            for i, found in enumerate(names):
                if found == old:
                    names[i] = name


def _quantised(proto, calibration):
    """Static QDQ: uint8 activations, int8 weights with a scale for each channel.

    Weights keep to 7 bits: x86 processors without VNNI add products of 8 bits up in 16, which overflows
    (a small CNN then differed from Keras by 0.29 of the largest logit, 0.02 with 7 bits).
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.images = iter(calibration)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {INPUT: image[None]}

    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/float.onnx", f"{folder}/int8.onnx"
        onnx.save(proto, source)
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(target)
