"""What a file says of itself. No date in it, so that the same network gives the same bytes."""

import json

NAME = "adprune_keras"


def describe(model, facts):
    """Return `{key: text}` for a file's metadata.

    Args:
        model: the inference `keras.Model`.
        facts: dict of plain data that the caller knows: net, widths, reductions, classes, ...
    """
    from adprune_keras._version import __version__

    known = {"package": f"{NAME} {__version__}", "model": model.name} | facts
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in known.items() if v is not None}


def into_tflite(content, facts):
    """Return a TFLite flatbuffer with facts as a JSON buffer named `adprune_keras`."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), "uint8")
    model.buffers.append(buffer)
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def of_tflite(path):
    """Return the facts that `into_tflite` put into a file; `{}` where there are none."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    for entry in model.metadata or []:
        if entry.name in (NAME, NAME.encode()):
            return json.loads(bytes(model.buffers[entry.buffer].data).decode())
    return {}


def of_onnx(path):
    """Return an ONNX file's metadata."""
    import onnx

    return {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}
