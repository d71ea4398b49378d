"""Write `README_model.md`, which says how to run the files beside it."""

from adprune_keras.export.formats import FORMATS
from adprune_keras.export.runtimes import RUNTIMES

from adprune_keras.report.table import escape, markdown_table


def rows(report):
    """Return the header and the rows of the table for an export report."""
    header = ("format", "precision", "status", "bytes", "MACs", "parameters", "accuracy", "Keras")
    header += ("difference", "worst", "same class")
    body = [
        (
            name,
            FORMATS[name].about.split(", ", 1)[1],
            "failed" if row["problems"] else "verified",
            _text(row["bytes"], "{:,}"),
            _text(row.get("macs"), "{:,}"),
            _text(row.get("params"), "{:,}"),
            _text(row.get("accuracy"), "{:.2f} %"),
            _text(row.get("keras_accuracy"), "{:.2f} %"),
            _text(row.get("difference"), "{:.1e}"),
            _text(row.get("worst"), "{:.1e}"),
            _text(row.get("agreement"), "{:.2f} %"),
        )
        for name, row in report.items()
    ]
    return header, body


def card(model, report, expected, removed):
    """Return the text of `README_model.md`.

    Args:
        model: the inference `keras.Model`.
        report: dict that `export_model` returns.
        expected: `verify.Expected`.
        removed: list of str, names of the layers that only training used.
    """
    shape = (expected.batch_size or 1, *expected.shape)
    kind = "uint8 pixels, 0 to 255" if expected.pixels else "images, scaled as in training"
    lines = [
        f"# {escape(model.name)}",
        "",
        f"Input `image`: {kind}, shape {shape}; output `logits` (without a final softmax).",
        "",
    ]
    lines += [*markdown_table(*rows(report)), ""]
    if removed:
        lines += [
            f"Not exported, because only training uses them: {escape(', '.join(removed))}.",
            "",
        ]
    for name, row in report.items():
        if row["problems"]:
            lines += [
                f"`{row['file']}` was not written: {escape('; '.join(row['problems']))}.",
                "",
            ]
            continue
        form = FORMATS[name]
        dtype = "uint8" if expected.pixels else form.io
        code = RUNTIMES[form.runtime].snippet.format(file=row["file"], shape=shape, dtype=dtype)
        lines += [f"## {row['file']}", "", f"{form.about}. SHA-256 `{row['sha256']}`", ""]
        lines += ["```python", *code.splitlines(), "```", ""]
        if form.io != "float32":
            lines += [
                "Input and output are integers. With `scale, zero` from "
                "`runner.get_input_details()['image']['quantization']` an image is "
                "`round(x / scale) + zero`. With those of the output the logits are "
                "`scale * (q - zero)`.",
                "",
            ]
    lines += [
        "Android: LiteRT's `CompiledModel` or `Interpreter` loads a `.tflite` from the assets. C++: "
        "`tflite::FlatBufferModel::BuildFromFile` and an `InterpreterBuilder`, or `Ort::Session` for a "
        "`.onnx`.",
        "",
    ]
    return "\n".join(lines)


def _text(value, form):
    return "n/a" if value is None else form.format(value)
