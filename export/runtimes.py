"""An exported file behind one face: its names, shapes and types, and its answer to a batch."""

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
        return self._session.run(None, {self.inputs[0].name: images})[0]

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
        (signature,) = self._interpreter.get_signature_list()
        self._runner = self._interpreter.get_signature_runner(signature)
        self._details = self._runner.get_input_details(), self._runner.get_output_details()
        self.inputs, self.outputs = (self._ports(d) for d in self._details)

    @staticmethod
    def foreign(path):
        """Return the operations of a file that are not built in."""
        from ai_edge_litert import schema_py_generated as schema

        codes = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0).operatorCodes
        return sorted(str(c.customCode) for c in codes if c.customCode)

    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C)."""
        (name, into), (answer, out) = (next(iter(d.items())) for d in self._details)
        scale, zero = into["quantization"]
        if scale and np.issubdtype(images.dtype, np.floating):
            limits = np.iinfo(into["dtype"])
            images = np.clip(np.round(images / scale) + zero, limits.min, limits.max)
        found = self._runner(**{name: images.astype(into["dtype"])})[answer]
        scale, zero = out["quantization"]
        return (found.astype("float32") - zero) * scale if scale else found

    @staticmethod
    def _ports(details):
        return [
            Port(
                name,
                tuple(int(d) if d >= 0 else None for d in port["shape_signature"]),
                np.dtype(port["dtype"]).name,
            )
            for name, port in details.items()
        ]


FILES = {"onnx": OnnxFile, "tflite": TfliteFile}
