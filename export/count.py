"""MACs and parameters recounted from the file itself, by the formula of `adprune_keras.accounting`."""

from math import prod

from adprune_keras.accounting import Total


def onnx_total(path):
    """Count an ONNX file over its inferred shapes, for one image.

    Args:
        path: an ONNX file of float32 weights.

    Returns:
        `Total` of MACs (Conv, Gemm, MatMul) and parameters (all float tensors that it stores).

    Raises:
        ValueError: a shape that inference leaves open beyond the batch.
    """
    import onnx

    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    macs = 0
    for node in graph.node:
        if node.op_type == "Conv":  # weights (M, N / groups, k, k), output (1, M, O, O)
            macs += prod(_known(shapes, node.output[0])[2:]) * prod(shapes[node.input[1]])
        elif node.op_type in ("Gemm", "MatMul"):  # weights (N, M), output (..., M)
            macs += prod(_known(shapes, node.output[0])[:-1]) * prod(shapes[node.input[1]])
    params = sum(
        prod(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and t.dims
    )
    return Total(macs, params)


def tflite_total(path):
    """Count a TFLite file over its flatbuffer, for one image. Returns as `onnx_total` does."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    kinds = schema.BuiltinOperator
    macs, params = 0, 0
    for op in graph.operators:
        kind = codes[op.opcodeIndex]
        shapes = [tuple(int(d) for d in graph.tensors[i].shape) if i >= 0 else () for i in op.inputs]
        out = tuple(int(d) for d in graph.tensors[op.outputs[0]].shape)
        if kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
            # weights (M, k, k, N / groups) or (1, k, k, C x multiplier), output (1, O, O, M)
            macs += prod(out[1:-1]) * prod(shapes[1])
        elif kind in (kinds.FULLY_CONNECTED, kinds.BATCH_MATMUL):  # weights (M, N), output (..., M)
            macs += prod(out[:-1]) * prod(shapes[1])
        else:
            continue
        params += sum(prod(shape) for shape in shapes[1:])
    return Total(macs, params)


def _known(shapes, name):
    shape = shapes.get(name, (0,))
    if 0 in shape:
        raise ValueError(f"The shape of '{name}' is not known from the file. Received: {shape}")
    return shape
