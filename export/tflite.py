"""TFLite: written by TensorFlow's converter through a SavedModel, run by LiteRT."""

import json
import tempfile
from math import prod

import numpy as np

from .runtime import INPUT, NAME, OUTPUT, Count, File, Port, Runtime


class Tflite(Runtime):
    """TFLite files: float32, float16 weights, int8 weights, or int8 throughout."""

    package = "ai-edge-litert"
    module = "ai_edge_litert.interpreter"
    needs = ("tensorflow", "ai_edge_litert", "flatbuffers")
    snippet = """\
import numpy as np; from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path="{file}").get_signature_runner()
images = np.zeros({shape}, "{dtype}")
logits = runner(image=images)["logits"]
print(logits.argmax(axis=1))
"""

    def convert(self, model, path, job):
        """Write a file of built-in operations only; see `Runtime.convert`."""
        import keras
        import tensorflow as tf

        form, shape = job.form, (job.batch_size, *model.inputs[0].shape[1:])
        # In a file of int8 throughout the converter makes the input uint8, without a cast.
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
        path.write_bytes(_with_metadata(content, job.metadata))

    def open(self, path, threads=None):
        """Return a `TfliteFile`."""
        return TfliteFile(path, threads)

    def foreign(self, path):
        """Return the operations of a file that are not built in."""
        return sorted(str(c.customCode) for c in _parse(path.read_bytes()).operatorCodes if c.customCode)

    def count(self, path):
        """Count a file over its flatbuffer."""
        graph, count = _Graph(path), Count()
        for op in graph.operators:
            kernel = graph.kernel(op)
            if kernel is not None:
                shape, stored = _shape(kernel), graph.dtype(kernel)
                count.add(kernel.buffer, shape, stored, graph.bias(op), graph.places(op))
        return count

    def metadata(self, path):
        """Return the facts that the conversion put into a file; `{}` where there are none."""
        model = _parse(path.read_bytes())
        for entry in model.metadata or []:
            if entry.name in (NAME, NAME.encode()):
                return json.loads(bytes(model.buffers[entry.buffer].data).decode())
        return {}


class TfliteFile(File):
    """A TFLite file in LiteRT. Creating it allocates the graph.

    `run` takes and returns real numbers: it scales a quantised input or output by the scale and the zero
    point in the file.
    """

    def __init__(self, path, threads=None):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        (names,) = self._interpreter.get_signature_list().values()
        self._into, *_ = into = self._interpreter.get_input_details()
        self._out, *_ = out = self._interpreter.get_output_details()
        self._shape = tuple(self._into["shape"])
        self.inputs = self._ports(names["inputs"], into)
        self.outputs = self._ports(names["outputs"], out)

    def run(self, images):
        """See `File.run`."""
        scale, zero = self._into["quantization"]
        if scale and np.issubdtype(images.dtype, np.floating):
            limits = np.iinfo(self._into["dtype"])
            images = np.clip(np.round(images / scale) + zero, limits.min, limits.max)
        self.ready(images)()
        found = self._interpreter.get_tensor(self._out["index"])
        scale, zero = self._out["quantization"]
        return (found.astype("float32") - zero) * scale if scale else found

    def ready(self, images):
        """See `File.ready`."""
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._into["index"], images.shape)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._into["index"], images.astype(self._into["dtype"]))
        return self._interpreter.invoke

    @staticmethod
    def _ports(names, details):
        return [
            Port(
                name,
                tuple(int(d) if d >= 0 else None for d in port["shape_signature"]),
                np.dtype(port["dtype"]).name,
            )
            for name, port in zip(names, details, strict=True)
        ]


class _Graph:
    """The one graph of a file, as counting needs it."""

    def __init__(self, path):
        from ai_edge_litert import schema_py_generated as schema

        self._model = _parse(path.read_bytes())
        (graph,) = self._model.subgraphs
        self.operators, self._tensors = graph.operators, graph.tensors
        self._kinds = kinds = schema.BuiltinOperator
        convolutions = (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.CONV_3D)
        dense = (kinds.FULLY_CONNECTED, kinds.BATCH_MATMUL)
        self._bias_at = dict.fromkeys((*convolutions, *dense), 2) | {kinds.TRANSPOSE_CONV: 3}
        self._codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in self._model.operatorCodes]
        self._types = {number: name for name, number in vars(schema.TensorType).items()}
        self._makers = {i: op for op in graph.operators for i in op.outputs}

    def kernel(self, op):
        """Return the stored kernel of a layer; `None` for another operation or a computed kernel."""
        if self._kind(op) not in self._bias_at:
            return None
        kernel = self._stored(op.inputs[1])
        return None if self._values(kernel) is None else kernel

    def bias(self, op):
        """Return an array of the shape of a layer's bias; `None` where it has none, or only zeros."""
        at = self._bias_at[self._kind(op)]
        if len(op.inputs) <= at or op.inputs[at] < 0:
            return None
        tensor = self._stored(op.inputs[at])
        values = self._values(tensor)
        return None if values is None or not np.any(values) else np.ones(_shape(tensor))

    def places(self, op):
        """Return how many times a layer applies its kernel to one image."""
        if self._kind(op) == self._kinds.TRANSPOSE_CONV:  # input (1, O, O, N)
            return prod(_shape(self._tensors[op.inputs[2]])[1:-1])
        shape = _shape(self._tensors[op.outputs[0]])
        dense = self._kind(op) in (self._kinds.FULLY_CONNECTED, self._kinds.BATCH_MATMUL)
        return prod(shape[:-1] if dense else shape[1:-1])  # output (..., M), or (1, O, O, M)

    def dtype(self, tensor):
        """Return the name of a tensor's dtype."""
        return self._types[tensor.type].lower()

    def _kind(self, op):
        return self._codes[op.opcodeIndex]

    def _stored(self, index):
        """Return the tensor that the file stores behind one; a cast from float16 is passed over."""
        maker = self._makers.get(index)
        if maker is not None and self._kind(maker) == self._kinds.DEQUANTIZE:
            return self._stored(maker.inputs[0])
        return self._tensors[index]

    def _values(self, tensor):
        """Return the bytes of a tensor, or `None`. Bytes of zero are zeros in every dtype."""
        data = self._model.buffers[tensor.buffer].data
        return None if data is None else np.asarray(data)


def _shape(tensor):
    return tuple(int(n) for n in tensor.shape)


def _parse(content):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def _with_metadata(content, facts):
    """Return a flatbuffer with facts added as a JSON buffer named `adprune_keras`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = _parse(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), "uint8")
    model.buffers.append(buffer)
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
