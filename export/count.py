"""MACs, weights and biases recounted from the file, by the formula of `adprune_keras.counting`."""

from dataclasses import dataclass, field
from math import prod

import numpy as np

_ONNX_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ONNX_CASTS = ("QuantizeLinear", "DequantizeLinear")


@dataclass
class Count:
    """What a file computes for one image, and holds for it.

    Attributes:
        macs: int, of convolutions and dense layers.
        weights: int, elements of their kernels.
        biases: int, elements of their biases. A bias of zeros does not count: some converters drop it,
            others write one where the model has none.
        dtypes: `{dtype of a kernel as it is stored: number of elements}`.
    """

    macs: int = 0
    weights: int = 0
    biases: int = 0
    dtypes: dict = field(default_factory=dict)

    def add(self, kernel, stored, bias, places):
        """Add one layer: its kernel's shape and dtype, its bias or `None`, the places it runs at."""
        self.macs += places * prod(kernel)
        self.weights += prod(kernel)
        self.biases += 0 if bias is None or not np.any(bias) else int(np.size(bias))
        self.dtypes[stored] = self.dtypes.get(stored, 0) + prod(kernel)


def of_onnx(path):
    """Count an ONNX file over its inferred shapes.

    Args:
        path: an ONNX file, float or with quantised weights (QDQ).

    Returns:
        A `Count`.

    Raises:
        ValueError: a shape that inference leaves open beyond the batch.
    """
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    held = {t.name: t for t in graph.initializer}
    held |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    shapes = {name: tuple(t.dims) for name, t in held.items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    makers = {name: node for node in graph.node for name in node.output}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def constant(name):
        """The stored tensor behind a name, with quantisation between them looked through."""
        while name not in held and name in makers and makers[name].op_type in _ONNX_CASTS:
            name = makers[name].input[0]
        return held.get(name)

    def added(name):
        """The bias that an Add behind a MatMul gives it."""
        while len(readers.get(name, ())) == 1:
            (node,) = readers[name]
            if node.op_type == "Add":
                other = next((n for n in node.input if n != name), name)
                return constant(other)
            if node.op_type not in _ONNX_CASTS:
                return None
            name = node.output[0]
        return None

    def known(name):
        shape = shapes.get(name, (0,))
        if 0 in shape:
            raise ValueError(f"The shape of '{name}' is not known from the file. Received: {shape}")
        return shape

    count, seen = Count(), set()
    for node in graph.node:
        if node.op_type not in (*_ONNX_CONVOLUTIONS, "Gemm", "MatMul"):
            continue
        kernel = constant(node.input[1])
        if kernel is None:
            continue
        if node.op_type in _ONNX_CONVOLUTIONS:  # kernel (M, N / groups, k, k), places (1, M, O, O)
            placed = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            places = prod(known(placed)[2:])
        else:  # kernel (N, M), output (..., M)
            places = prod(known(node.output[0])[:-1])
        bias = constant(node.input[2]) if len(node.input) > 2 else None
        if node.op_type == "MatMul":
            bias = added(node.output[0])
        again = kernel.name in seen and kernel.name
        seen.add(kernel.name)
        if again:  # a shared layer computes at each call and is stored once
            count.macs += places * prod(kernel.dims)
            continue
        stored = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kernel.data_type)).name
        values = None if bias is None else numpy_helper.to_array(bias)
        count.add(tuple(kernel.dims), stored, values, places)
    return count


def of_tflite(path):
    """Count a TFLite file over its flatbuffer; arguments and result as in `of_onnx`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    (graph,) = model.subgraphs
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    kinds, types = schema.BuiltinOperator, {v: k for k, v in vars(schema.TensorType).items()}
    makers = {i: op for op in graph.operators for i in op.outputs}
    # of each kind: the places of kernel and bias among the inputs, and what it runs at every place of
    convolution = (1, 2, lambda op: graph.tensors[op.outputs[0]].shape[1:-1])
    dense = (1, 2, lambda op: graph.tensors[op.outputs[0]].shape[:-1])
    transposed = (1, 3, lambda op: graph.tensors[op.inputs[2]].shape[1:-1])
    layouts = dict.fromkeys((kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.CONV_3D), convolution)
    layouts |= dict.fromkeys((kinds.FULLY_CONNECTED, kinds.BATCH_MATMUL), dense)
    layouts[kinds.TRANSPOSE_CONV] = transposed

    def stored(index):
        """The tensor that the file stores behind one, a float16 looked through."""
        maker = makers.get(index)
        if maker is not None and codes[maker.opcodeIndex] == kinds.DEQUANTIZE:
            return stored(maker.inputs[0])
        return graph.tensors[index]

    def values(index):
        tensor = stored(index)
        data = model.buffers[tensor.buffer].data
        return None if data is None else np.asarray(data)  # zero bytes are zeros in every dtype

    count, seen = Count(), set()
    for op in graph.operators:
        layout = layouts.get(codes[op.opcodeIndex])
        if layout is None:
            continue
        at, bias_at, placed = layout
        kernel = stored(op.inputs[at])
        if values(op.inputs[at]) is None:  # made by the graph: no layer's kernel
            continue
        places, shape = prod(int(n) for n in placed(op)), tuple(int(n) for n in kernel.shape)
        if kernel.buffer in seen:
            count.macs += places * prod(shape)
            continue
        seen.add(kernel.buffer)
        bias, index = None, op.inputs[bias_at] if len(op.inputs) > bias_at else -1
        if index >= 0 and (raw := values(index)) is not None and np.any(raw):
            bias = np.ones([int(n) for n in stored(index).shape])
        count.add(shape, types[kernel.type].lower(), bias, places)
    return count
