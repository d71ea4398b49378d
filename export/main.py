"""`adprune-export`: a run directory or a `.keras` file in, verified ONNX and TFLite files out."""

import pathlib
import sys
import types

from absl import app, flags, logging
from adprune_keras.export.pipeline import FORMATS, export_model
from adprune_keras.export.verify import VerificationError

from adprune_keras import run, tables
from adprune_keras.accounting import cost

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of `adprune-export`."""
    flags.DEFINE_string("run_dir", None, "Run directory written by adprune-train.")
    flags.DEFINE_string("model", None, "A .keras file, instead of a run directory.")
    flags.DEFINE_list("formats", ["onnx", "tflite"], f"Formats: {', '.join(FORMATS)}.")
    flags.DEFINE_string("output_dir", None, "Where the files go; default: export/ beside the model.")
    flags.DEFINE_string(
        "dataset",
        None,
        "With --model: data set whose test images the files are checked on, as in adprune-train.",
    )


def export_run(directory, formats, output_dir=None):
    """Export the final net of a run, checked on the test set that the run was trained with."""
    import keras

    from adprune_keras.train import load_data

    header = run.read_record(directory)[0]
    model = keras.models.load_model(run.model_path(directory))
    dataset = load_data(types.SimpleNamespace(**header["flags"]))
    _export(model, output_dir or pathlib.Path(directory) / "export", formats, dataset.test)


def export_file(path, formats, dataset=None, output_dir=None):
    """Export a `.keras` file, checked on a data set's test images or on random ones."""
    import keras

    from adprune_keras import data

    path = pathlib.Path(path)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"--model must be an existing .keras file. Received: {path}")
    model = keras.models.load_model(path)
    test = data.load(dataset).test if dataset else None
    _export(model, output_dir or path.parent / "export", formats, test)


def table(rows):
    """Render an export report as a Markdown table.

    Args:
        rows: what `export_model` returns.
    """
    header = ("format", "status", "bytes", "MACs", "parameters", "accuracy", "Keras", "difference")
    return "\n".join(
        tables.markdown(
            header,
            [
                (
                    name,
                    "failed" if row["problems"] else "verified",
                    _text(row["bytes"], "{:,}"),
                    _text(row.get("macs"), "{:,}"),
                    _text(row.get("params"), "{:,}"),
                    _text(row.get("accuracy"), "{:.2f} %"),
                    _text(row.get("keras_accuracy"), "{:.2f} %"),
                    _text(row.get("difference"), "{:.1e}"),
                )
                for name, row in rows.items()
            ],
        )
    )


def _export(model, directory, formats, test_data):
    logging.set_verbosity(logging.ERROR)  # the converters narrate; what counts is checked below
    print(f"Exporting {', '.join(formats)} to {directory} ...", flush=True)
    try:
        rows, failure = export_model(model, directory, formats, test_data), None
    except VerificationError as e:
        rows, failure = e.report, e
    deployed = cost(model).deployed
    images = max(row["images"] for row in rows.values())
    print(
        f"\n{table(rows)}\n\nRun on {images:,} images. Expected by cost(model).deployed: "
        f"{deployed.macs:,} MACs, {deployed.params:,} parameters."
    )
    if failure:
        sys.exit(f"adprune-export: {failure}")


def _text(value, form):
    return "n/a" if value is None else form.format(value)


def _main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}. All settings are flags.")
    if bool(FLAGS.run_dir) == bool(FLAGS.model):
        raise app.UsageError("Give either --run_dir or --model.")
    try:
        if FLAGS.run_dir:
            export_run(FLAGS.run_dir, FLAGS.formats, FLAGS.output_dir)
        else:
            export_file(FLAGS.model, FLAGS.formats, FLAGS.dataset, FLAGS.output_dir)
    except ValueError as e:
        sys.exit(f"adprune-export: {e}")


def main():
    """Entry point of `adprune-export`."""
    define_flags()
    app.run(_main)


if __name__ == "__main__":
    main()
