"""`adprune-export`: a run directory or a `.keras` file in, verified ONNX and TFLite files out.

Exit status: 0, all files verified and written; 1, nothing exported (flags, input, data); 2, a file
failed its checks and was not written, the others were.
"""

import json
import pathlib
import sys

from absl import app, flags, logging
from adprune_keras.export import card, latency
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.pipeline import export_model
from adprune_keras.export.verify import VerificationError

from adprune_commands import quiet_libraries
from adprune_keras import command, run, tables
from adprune_keras.accounting import cost

FLAGS = flags.FLAGS
FAILED = 2
_FORMATS = "; ".join(f"{name}: {form.about}" for name, form in FORMATS.items())


def define_flags():
    """Define the flags of `adprune-export`; return them as `{title: list}`."""
    return {
        "Input (one of the first two)": [
            flags.DEFINE_string("run_dir", None, "Run directory written by adprune-train."),
            flags.DEFINE_string("model", None, "A .keras file, instead of a run directory."),
            flags.DEFINE_string(
                "dataset",
                None,
                "With --model: data set whose test images the files are checked on, and whose training "
                "images calibrate int8, as in adprune-train. Default: random images, and no int8.",
            ),
        ],
        "Files": [
            flags.DEFINE_list(
                "formats",
                ["onnx", "tflite"],
                f"Formats, or all; float32 by default, as it loses nothing. {_FORMATS}.",
            ),
            flags.DEFINE_string(
                "output_dir", None, "Where the files go. Default: export/ beside the model."
            ),
            flags.DEFINE_integer(
                "batch_size", None, "Fix the batch of the files. Default: any batch will do.", 1
            ),
            flags.DEFINE_bool(
                "pixel_input", False, "Files take uint8 pixels and normalise them: what a camera gives."
            ),
        ],
        "Checks": [
            flags.DEFINE_float(
                "accuracy_points",
                None,
                "Accuracy that a file may lose against Keras, in points. Default: 0.1 for float, 1.0 "
                "for int8, more than rounding costs.",
                0.0,
            ),
            flags.DEFINE_bool(
                "latency",
                False,
                "Time the files on one thread beside the network before pruning, in the same formats, "
                "and write latency.json beside them. It takes a minute or more.",
            ),
            flags.DEFINE_string(
                "baseline",
                None,
                "With --model and --latency: .keras file of the network before pruning. A run knows "
                "its own.",
            ),
        ],
    }


def export_run(directory, formats, output_dir=None, latency=False, verbose=1, **options):
    """Export the final net of a run, checked on the test set that the run was trained with.

    Args:
        directory: the run directory.
        formats: as in `export_model`.
        output_dir: where the files go; `export/` in the run directory by default.
        latency: whether to time the files beside net0, at its widths with new weights.
        verbose: int, 0 prints nothing where every file passes. Defaults to 1.
        options: `pixel_input`, and further arguments of `export_model`.
    """
    from adprune_keras.recipe import build, load_data

    names = resolve(formats)
    found = run.read_run(directory)
    model = run.load_model(run.model_path(directory))
    if not found.nets:
        raise ValueError(f"The run in {directory} holds no net that trained.")
    values = run.settings(found)
    values.augment = "none"
    dataset = load_data(values)
    last = found.nets[-1]
    facts = {
        "net": f"net{last['net']}",
        "widths": last["widths"],
        "ops_reduction": last["ops_reduction"],
        "params_reduction": last["params_reduction"],
    }
    accuracy = (found.result or {}).get("val_accuracy")
    expected = None if accuracy is None else 100 * accuracy
    output = output_dir or run.own(directory, "export")
    baseline = build(values, dataset.input_shape, dataset.classes) if latency else None
    options |= {"expected_accuracy": expected, "verbose": verbose}
    _export(model, output, names, dataset, facts, baseline, **options)


def export_file(path, formats, dataset=None, output_dir=None, baseline=None, **options):
    """Export a `.keras` file, checked on a data set's test images or on random ones.

    With `baseline`, a `.keras` file of the network before pruning, the files are timed beside it.
    """
    from adprune_keras import data

    names, path = resolve(formats), pathlib.Path(path)
    model = run.load_model(path)
    before = run.load_model(baseline) if baseline else None
    loaded = data.load(dataset, augment="none") if dataset else None
    if loaded and options.get("verbose", 1):
        print(loaded.scaling())
    _export(model, output_dir or run.own(path.parent, "export"), names, loaded, {}, before, **options)


def table(report):
    """Render an export report as a Markdown table."""
    return "\n".join(tables.markdown(*card.rows(report)))


def _export(model, directory, names, dataset, facts, baseline, pixel_input=False, verbose=1, **options):
    needs = [name for name in names if FORMATS[name].calibrated]
    if dataset is None and (needs or pixel_input):
        what = needs + ["--pixel_input"] * pixel_input
        raise ValueError(f"Without --dataset there are no training images for these: {', '.join(what)}.")
    if dataset is not None:
        facts |= {"classes": dataset.classes, "mean": dataset.mean, "std": dataset.std}
    logging.set_verbosity(logging.ERROR)  # the converters narrate; what counts is checked below

    def say(text):
        if verbose:
            print(text, flush=True)

    say(f"Exporting {', '.join(names)} to {directory} ...")
    normalization = (dataset.mean, dataset.std) if pixel_input else None
    timed = pathlib.Path(directory) / "latency.json"
    timed.unlink(missing_ok=True)  # an older one is not of these files
    try:
        with quiet_libraries():
            report, failure = (
                export_model(
                    model,
                    directory,
                    names,
                    dataset and dataset.test,
                    dataset and dataset.train,
                    normalization=normalization,
                    facts=facts,
                    **options,
                ),
                None,
            )
    except VerificationError as e:
        report, failure = e.report, e
    deployed = cost(model).deployed
    images = max(row["images"] for row in report.values())
    say(
        f"\n{table(report)}\n\nRun on {images:,} images. Expected by cost(model).deployed: "
        f"{deployed.macs:,} MACs, {deployed.params:,} parameters."
    )
    if baseline is not None:
        settings = {"batch_size": options.get("batch_size"), "normalization": normalization}
        try:
            found = latency.compare(model, baseline, directory, names, **settings)
            run.write_text(timed, json.dumps(found, indent=1) + "\n")
            say(f"\n{latency.summary(found)}")
        except (ValueError, RuntimeError) as e:
            print(f"adprune-export: the files were not timed: {e}", file=sys.stderr)
    if failure:
        print(f"adprune-export: {failure}", file=sys.stderr)
        sys.exit(FAILED)


def _act():
    if bool(FLAGS.run_dir) == bool(FLAGS.model):
        raise app.UsageError("Give either --run_dir or --model.")
    if bool(FLAGS.baseline) != bool(FLAGS.model and FLAGS.latency):
        raise app.UsageError("--model with --latency needs --baseline, and nothing else takes it.")
    options = {
        "batch_size": FLAGS.batch_size,
        "pixel_input": FLAGS.pixel_input,
        "accuracy_points": FLAGS.accuracy_points,
    }
    if FLAGS.run_dir:
        export_run(FLAGS.run_dir, FLAGS.formats, FLAGS.output_dir, FLAGS.latency, **options)
    else:
        where = FLAGS.dataset, FLAGS.output_dir, FLAGS.baseline
        export_file(FLAGS.model, FLAGS.formats, *where, **options)


def main():
    """Entry point of `adprune-export`."""
    groups = define_flags()
    command.run("adprune-export", _act, groups)


if __name__ == "__main__":
    main()
