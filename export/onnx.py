"""ONNX: written by tf2onnx, run by ONNX Runtime."""

import functools
import tempfile
from math import prod

import numpy as np

from .runtime import INPUT, OUTPUT, Count, File, Port, Runtime

OPSET = 17  # 18 is tf2onnx's highest and costs one more Transpose
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_DENSE = ("Gemm", "MatMul")
_CASTS = ("QuantizeLinear", "DequantizeLinear")


class Onnx(Runtime):
    """ONNX files: float32, or int8 by static quantisation. Batch norms are folded, the input is NHWC."""

    package = "onnxruntime"
    module = "onnxruntime"
    needs = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
    snippet = """\
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
images = np.zeros({shape}, "{dtype}")
logits = session.run(["logits"], {{"image": images}})[0]
print(logits.argmax(axis=1))
"""

    def convert(self, model, path, job):
        """Write a file; see `Runtime.convert`."""
        import onnx

        proto = _float32(model, job)
        if job.form.calibrated:
            proto = _quantised(proto, job.calibration.astype("uint8") if job.pixels else job.calibration)
        onnx.helper.set_model_props(proto, job.metadata)
        onnx.save(proto, path)

    def open(self, path, threads=None):
        """Return an `OnnxFile`."""
        return OnnxFile(path, threads)

    def foreign(self, path):
        """Check a file's graph; return the operations that are not built in."""
        import onnx

        onnx.checker.check_model(str(path), full_check=True)
        nodes = [n for n in onnx.load(path).graph.node if n.domain not in ("", "ai.onnx")]
        return sorted({f"{node.domain}.{node.op_type}" for node in nodes})

    def count(self, path):
        """Count a file over its inferred shapes; its weights may be quantised (QDQ)."""
        graph, count = _Graph(path), Count()
        for node in graph.nodes:
            kernel = graph.kernel(node)
            if kernel is not None:
                shape, stored = tuple(kernel.dims), _dtype(kernel)
                count.add(kernel.name, shape, stored, graph.bias(node), graph.places(node))
        return count

    def metadata(self, path):
        """Return a file's metadata."""
        import onnx

        return {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}


class OnnxFile(File):
    """An ONNX file in ONNX Runtime on the CPU."""

    def __init__(self, path, threads=None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [self._port(p) for p in self._session.get_inputs()]
        self.outputs = [self._port(p) for p in self._session.get_outputs()]

    def run(self, images):
        """See `File.run`."""
        return self.ready(images)()[0]

    def ready(self, images):
        """See `File.ready`."""
        return functools.partial(self._session.run, None, {self.inputs[0].name: images})

    @staticmethod
    def _port(port):
        types = {"tensor(float)": "float32"}
        dtype = types.get(port.type, port.type.removeprefix("tensor(").removesuffix(")"))
        shape = tuple(d if isinstance(d, int) else None for d in port.shape)
        return Port(port.name, shape, dtype)


class _Graph:
    """The graph of a file with the shapes of its tensors, as counting needs it."""

    def __init__(self, path):
        import onnx

        proto = onnx.load(path)
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
        self.nodes = graph.node
        self._held = {t.name: t for t in graph.initializer}
        self._held |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
        self._shapes = {name: tuple(t.dims) for name, t in self._held.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def kernel(self, node):
        """Return the stored kernel of a layer; `None` for another node or a kernel that is computed."""
        return self._constant(node.input[1]) if node.op_type in (*_CONVOLUTIONS, *_DENSE) else None

    def bias(self, node):
        """Return the values of a layer's bias, or `None`."""
        from onnx import numpy_helper

        if node.op_type == "MatMul":
            bias = self._added(node.output[0])
        else:
            bias = self._constant(node.input[2]) if len(node.input) > 2 else None
        return None if bias is None else numpy_helper.to_array(bias)

    def places(self, node):
        """Return how many times a layer applies its kernel to one image."""
        if node.op_type == "Conv":  # kernel (M, N / groups, k, k), output (1, M, O, O)
            return prod(self._shape(node.output[0])[2:])
        if node.op_type == "ConvTranspose":  # input (1, N, O, O)
            return prod(self._shape(node.input[0])[2:])
        return prod(self._shape(node.output[0])[:-1])  # kernel (N, M), output (..., M)

    def _shape(self, name):
        shape = self._shapes.get(name, (0,))
        if 0 in shape:
            raise ValueError(f"The shape of '{name}' is not known from the file. Received: {shape}")
        return shape

    def _constant(self, name):
        """Return the stored tensor behind a name, or `None`; steps of quantisation are passed over."""
        while name not in self._held and name in self._makers and self._makers[name].op_type in _CASTS:
            name = self._makers[name].input[0]
        return self._held.get(name)

    def _added(self, name):
        """Return the stored tensor that an Add puts on the output of a MatMul, or `None`."""
        while len(self._readers.get(name, ())) == 1:
            (node,) = self._readers[name]
            if node.op_type == "Add":
                other = next((n for n in node.input if n != name), name)
                return self._constant(other)
            if node.op_type not in _CASTS:
                return None
            name = node.output[0]
        return None


def _dtype(tensor):
    import onnx

    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).name


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
    """Quantise statically (QDQ): uint8 activations, int8 weights with a scale for each channel.

    Weights use 7 bits only. x86 processors without VNNI add products of 8 bits up in 16 bits, which
    overflows: a small CNN then differed from Keras by 0.29 of the largest logit, with 7 bits by 0.02.
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
