"""Export a run or a `.keras` file, checked on its data."""

import dataclasses
import json
import pathlib
import sys

from adprune_keras.export import card, latency
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.pipeline import export_model
from adprune_keras.export.verify import VerificationError

from adprune_keras import data
from adprune_keras.counting.count import cost
from adprune_keras.data.settings import Images, Source
from adprune_keras.files.atomic import own_path, write_text
from adprune_keras.files.quiet import quiet_libraries
from adprune_keras.record.directory import load_model, model_path
from adprune_keras.record.lines import read_run, run_flags
from adprune_keras.report.table import markdown_table
from adprune_keras.settings import from_values
from adprune_keras.train import recipe
from adprune_keras.train.settings import Network, Training


def export_run(directory, formats, output_dir=None, latency=False, verbose=1, **options):
    """Export the final net of a run, checked on the test set that the run was trained with.

    Args:
        directory: the run directory.
        formats: as in `export_model`.
        output_dir: where the files go; `export/` in the run directory by default.
        latency: whether to time the files beside net0, at its widths with new weights.
        verbose: int, 0 prints nothing where every file passes. Defaults to 1.
        options: `pixel_input`, and further arguments of `export_model`.

    Raises:
        VerificationError: a file failed its checks; the others are there, and the table is printed.
    """
    names = resolve(formats)
    found = read_run(directory)
    model = load_model(model_path(directory))
    if not found.nets:
        raise ValueError(f"The run in {directory} holds no net that trained.")
    flags = run_flags(found)
    source, training = from_values(Source, flags), from_values(Training, flags)
    images = dataclasses.replace(from_values(Images, flags), augment="none")
    dataset = recipe.load_data(source, images, training)
    last = found.nets[-1]
    facts = {
        "net": f"net{last['net']}",
        "widths": last["widths"],
        "ops_reduction": last["ops_reduction"],
        "params_reduction": last["params_reduction"],
    }
    accuracy = (found.result or {}).get("val_accuracy")
    expected = None if accuracy is None else 100 * accuracy
    output = output_dir or own_path(directory, "export")
    baseline = None
    if latency:
        network = from_values(Network, flags)
        baseline = recipe.build(network, dataset.input_shape, dataset.classes)
    options |= {"expected_accuracy": expected, "verbose": verbose}
    export_checked(model, output, names, dataset, facts, baseline, **options)


def export_file(path, formats, dataset=None, output_dir=None, baseline=None, **options):
    """Export a `.keras` file, checked on a data set's test images or on random ones.

    With `baseline`, a `.keras` file of the network before pruning, the files are timed beside it.
    """
    names, path = resolve(formats), pathlib.Path(path)
    model = load_model(path)
    before = load_model(baseline) if baseline else None
    loaded = data.load(dataset, augment="none") if dataset else None
    if loaded and options.get("verbose", 1):
        print(loaded.scaling())
    export_checked(
        model, output_dir or own_path(path.parent, "export"), names, loaded, {}, before, **options
    )


def report_table(report):
    """Render an export report as a Markdown table."""
    return "\n".join(markdown_table(*card.rows(report)))


def export_checked(
    model, directory, names, dataset, facts, baseline, pixel_input=False, verbose=1, **options
):
    """Export a model, print the table, and time the files where a baseline is given.

    Raises:
        VerificationError: a file failed its checks; the others are there, and the table is printed.
    """
    needs = [name for name in names if FORMATS[name].calibrated]
    if dataset is None and (needs or pixel_input):
        what = needs + ["--pixel_input"] * pixel_input
        raise ValueError(f"Without --dataset there are no training images for these: {', '.join(what)}.")
    if dataset is not None:
        facts |= {"classes": dataset.classes, "mean": dataset.mean, "std": dataset.std}

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
        f"\n{report_table(report)}\n\nRun on {images:,} images. Expected by cost(model).deployed: "
        f"{deployed.macs:,} MACs, {deployed.params:,} parameters."
    )
    if baseline is not None:
        settings = {"batch_size": options.get("batch_size"), "normalization": normalization}
        try:
            found = latency.compare(model, baseline, directory, names, **settings)
            write_text(timed, json.dumps(found, indent=1) + "\n")
            say(f"\n{latency.summary(found)}")
        except (ValueError, RuntimeError) as e:
            print(f"adprune-export: the files were not timed: {e}", file=sys.stderr)
    if failure:
        raise failure
