"""An exported file behind one face: its names, shapes and types, and its answer to a batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Port:
    """One input or output of a file; a dynamic batch is `None` in the shape."""

    name: str
    shape: tuple
    dtype: str


class OnnxFile:
    """An ONNX file in ONNX Runtime on the CPU. Creating it checks the graph."""

    def __init__(self, path):
        import onnx
        import onnxruntime

        onnx.checker.check_model(str(path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [self._port(p) for p in self._session.get_inputs()]
        self.outputs = [self._port(p) for p in self._session.get_outputs()]

    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C)."""
        return self._session.run(None, {self.inputs[0].name: images})[0]

    @staticmethod
    def _port(port):
        types = {"tensor(float)": "float32"}
        shape = tuple(d if isinstance(d, int) else None for d in port.shape)
        return Port(port.name, shape, types.get(port.type, port.type))


class TfliteFile:
    """A TFLite file in LiteRT. Creating it allocates the graph."""

    def __init__(self, path):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path))
        self._interpreter.allocate_tensors()
        (signature,) = self._interpreter.get_signature_list()
        self._runner = self._interpreter.get_signature_runner(signature)
        self.inputs = self._ports(self._runner.get_input_details())
        self.outputs = self._ports(self._runner.get_output_details())

    def run(self, images):
        """Return the first output for a batch of images (N, H, W, C)."""
        return self._runner(**{self.inputs[0].name: images})[self.outputs[0].name]

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
