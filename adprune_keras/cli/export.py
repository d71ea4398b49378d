"""`adprune-export`: turn a run directory or a `.keras` file into verified ONNX and TFLite files.

Exit status: 0, all files are verified and written; 1, nothing was exported because of the flags, the
input or the data; 2, a file failed its checks and was not written, but the others were.
"""

import contextlib
import sys

from absl import app, flags, logging

from adprune_keras.cli import command
from adprune_keras.export.formats import FORMATS, resolve

FLAGS = flags.FLAGS
FAILED = 2  # exit status
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
                "With --model: data set, named as in adprune-train. The files are checked on its test "
                "images, and its training images calibrate int8. Default: random images, and no int8.",
            ),
        ],
        "Files": [
            flags.DEFINE_list(
                "formats",
                ["onnx", "tflite"],
                f"Names of formats, or all. The default is float32, which loses nothing. {_FORMATS}.",
            ),
            flags.DEFINE_string(
                "output_dir", None, "Where the files go. Default: export/ beside the model."
            ),
            flags.DEFINE_integer(
                "batch_size", None, "Fixed batch size of the files. Default: any batch size.", 1
            ),
            flags.DEFINE_bool(
                "pixel_input",
                False,
                "The files take uint8 pixels, as a camera gives them, and normalise them.",
            ),
        ],
        "Checks": [
            flags.DEFINE_float(
                "accuracy_points",
                None,
                "Accuracy that a file may lose against Keras, in points. Default: 0.1 for float and 1.0 "
                "for int8, which is more than rounding costs.",
                0.0,
            ),
            flags.DEFINE_bool(
                "latency",
                False,
                "Time the files on one thread, together with the network before pruning in the same "
                "formats, and write latency.json. This takes a minute or more.",
            ),
            flags.DEFINE_string(
                "baseline",
                None,
                "With --model and --latency: .keras file of the network before pruning. With --run_dir "
                "it is not needed.",
            ),
        ],
    }


def _act():
    if bool(FLAGS.run_dir) == bool(FLAGS.model):
        raise app.UsageError("Give either --run_dir or --model.")
    if bool(FLAGS.baseline) != bool(FLAGS.model and FLAGS.latency):
        raise app.UsageError("--model with --latency needs --baseline, and --baseline needs both.")
    options = {
        "batch_size": FLAGS.batch_size,
        "pixel_input": FLAGS.pixel_input,
        "accuracy_points": FLAGS.accuracy_points,
    }
    resolve(FLAGS.formats)
    command.load_libraries()
    from adprune_keras.export import jobs

    with exit_if_refused():
        _carry_out(jobs, options)


@contextlib.contextmanager
def exit_if_refused():
    """Run an export; if a file failed its checks, print that and exit with status 2."""
    from adprune_keras.export.verify import VerificationError

    logging.set_verbosity(logging.ERROR)  # the converters print much; the checks report what matters
    try:
        yield
    except VerificationError as e:
        print(f"adprune-export: {e}", file=sys.stderr)
        sys.exit(FAILED)


def _carry_out(jobs, options):
    if FLAGS.run_dir:
        jobs.export_run(FLAGS.run_dir, FLAGS.formats, FLAGS.output_dir, FLAGS.latency, **options)
    else:
        where = FLAGS.dataset, FLAGS.output_dir, FLAGS.baseline
        jobs.export_file(FLAGS.model, FLAGS.formats, *where, **options)


def main():
    """Entry point of `adprune-export`."""
    command.run("adprune-export", _act, define_flags())


if __name__ == "__main__":
    main()
