"""An exported file behind one face: its names, shapes and types, and its answer to a batch."""

import functools
import importlib
from dataclasses import dataclass

import numpy as np

_MODULES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert.interpreter"}


def load(runtime):
    """Import a runtime, which the first file would do otherwise."""
    importlib.import_module(_MODULES[runtime])


@dataclass(frozen=True)
class Port:
    """One input or output of a file; a dynamic batch is `None` in the shape."""

    name: str
    shape: tuple
    dtype: str


class OnnxFile:
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

    @staticmethod
    def foreign(path):
        """Check a file's graph; return the operations that are not built in."""
        import onnx

        onnx.checker.check_model(str(path), full_check=True)
        nodes = [n for n in onnx.load(path).graph.node if n.domain not in ("", "ai.onnx")]
        return sorted({f"{node.domain}.{node.op_type}" for node in nodes})

    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C)."""
        return self.ready(images)()[0]

    def ready(self, images):
        """Return a function that runs these images, with all else done beforehand: to be timed."""
        return functools.partial(self._session.run, None, {self.inputs[0].name: images})

    @staticmethod
    def _port(port):
        types = {"tensor(float)": "float32"}
        dtype = types.get(port.type, port.type.removeprefix("tensor(").removesuffix(")"))
        shape = tuple(d if isinstance(d, int) else None for d in port.shape)
        return Port(port.name, shape, dtype)


class TfliteFile:
    """A TFLite file in LiteRT. Creating it allocates the graph.

    `run` takes and returns real numbers: those of a quantised input or output are scaled here, by the
    scale and zero point in the file.
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

    @staticmethod
    def foreign(path):
        """Return the operations of a file that are not built in."""
        from ai_edge_litert import schema_py_generated as schema

        codes = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0).operatorCodes
        return sorted(str(c.customCode) for c in codes if c.customCode)

    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C)."""
        scale, zero = self._into["quantization"]
        if scale and np.issubdtype(images.dtype, np.floating):
            limits = np.iinfo(self._into["dtype"])
            images = np.clip(np.round(images / scale) + zero, limits.min, limits.max)
        self.ready(images)()
        found = self._interpreter.get_tensor(self._out["index"])
        scale, zero = self._out["quantization"]
        return (found.astype("float32") - zero) * scale if scale else found

    def ready(self, images):
        """Return a function that runs these images, with all else done beforehand: to be timed."""
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


FILES = {"onnx": OnnxFile, "tflite": TfliteFile}
