"""Export a run or a `.keras` file, and check the files on its data."""

import dataclasses
import json
import pathlib
import sys

from adprune_keras.export import card, latency
from adprune_keras.export.formats import FORMATS, resolve
from adprune_keras.export.pipeline import check_packages, export_model
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
    """Export the final net of a run, and check the files on the run's test set.

    Args:
        directory: the run directory.
        formats: list of names in `formats.FORMATS`, or `["all"]`.
        output_dir: where the files go. Defaults to `export/` in the run directory.
        latency: bool, whether to time the files beside net0, which gets new weights for that.
        verbose: int. With 0 nothing is printed if every file passes. Defaults to 1.
        options: `pixel_input`, and further arguments of `export_model`.

    Raises:
        VerificationError: a file failed its checks. The other files are written and the table is
            printed.
    """
    names = resolve(formats)
    check_packages(names)
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
    """Export a `.keras` file, and check the files on a data set's test images or on random images.

    Args:
        path: the `.keras` file.
        formats: list of names in `formats.FORMATS`, or `["all"]`.
        dataset: str, the name or path of a data set, or `None` for random images.
        output_dir: where the files go. Defaults to `export/` beside the model.
        baseline: `None`, or a `.keras` file of the network before pruning: the files are then timed
            beside it.
        options: `pixel_input`, `verbose`, and further arguments of `export_model`.

    Raises:
        VerificationError: as in `export_run`.
    """
    names, path = resolve(formats), pathlib.Path(path)
    check_packages(names)
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
    """Export a model, print the table, and time the files if there is a baseline.

    Args:
        model: `keras.Model`.
        directory: where the files go.
        names: list of names in `formats.FORMATS`.
        dataset: data set as `data.load` returns it, or `None` for random images.
        facts: dict of plain data for the files' metadata.
        baseline: `keras.Model`, the network before pruning, or `None`.
        pixel_input: bool, whether the files take uint8 pixels.
        verbose: int, as in `export_run`.
        options: further arguments of `export_model`.

    Raises:
        VerificationError: as in `export_run`.
    """
    needs = [name for name in names if FORMATS[name].calibrated]
    if dataset is None and (needs or pixel_input):
        what = needs + ["--pixel_input"] * pixel_input
        raise ValueError(f"Without --dataset there are no training images for these: {', '.join(what)}.")
    if dataset is not None:
        facts = facts | {"classes": dataset.classes, "mean": dataset.mean, "std": dataset.std}

    def say(text):
        if verbose:
            print(text, flush=True)

    say(f"Exporting {', '.join(names)} to {directory} ...")
    normalization = (dataset.mean, dataset.std) if pixel_input else None
    timed = pathlib.Path(directory) / "latency.json"
    timed.unlink(missing_ok=True)  # an older one is about other files
    options |= {"normalization": normalization, "facts": facts}
    failure = None
    try:
        with quiet_libraries():
            report = export_model(
                model, directory, names, dataset and dataset.test, dataset and dataset.train, **options
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
