"""Export many networks to every format, check the files, and print a table of the results.

    python benchmarks/exports.py --data=cifar10.npz --output=exports [NAME ...]

The networks are VGG-19 and ResNet18 at the widths of net1 and net2 in Table I, the same two at odd
widths with layers of 1 and 3 channels, and three networks of `keras.applications`. Each is first
trained for --steps batches, because int8 files of an untrained net show nothing. Then all six formats
are exported and verified on --test_examples test images. Each network is a JSON line in --output, and a
second call of the same command continues where the first ended. It takes half an hour on two cores.
"""

import itertools
import json
import pathlib
import tempfile
import time

import keras
from absl import app, flags
from adprune_keras.export import VerificationError, export_model

from adprune_keras import cost, data, models
from adprune_keras.report import paper
from adprune_keras.report.table import markdown_table
from adprune_keras.text import plain

FLAGS = flags.FLAGS
ODD_VGG19 = (5, 3, 9, 7, 13, 1, 11, 17, 27, 3, 15, 33, 21, 1, 19, 35)
ODD_RESNET18 = (7, 5, 9, 3, 6, 13, 11, 1, 12, 21, 27, 3, 17, 33, 29, 1, 35)


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_string("data", None, "An .npz file of CIFAR-10.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results.", required=True)
    flags.DEFINE_integer("steps", 150, "Batches of 64 images that a network trains on.")
    flags.DEFINE_integer("test_examples", 2000, "Test images that each file answers.")


def factory(network, widths):
    """Return a function that builds one of our networks at given widths."""
    return lambda: models.NETWORKS[network](input_shape=(32, 32, 3), classes=10, widths=widths)


def application(name):
    """Return a function that builds a network of `keras.applications` for CIFAR-10."""
    build = getattr(keras.applications, name)
    return lambda: build(weights=None, input_shape=(32, 32, 3), classes=10)


NETWORKS = {
    f"{study.network} net{net}": factory(study.network, study.nets[net].widths)
    for study in (paper.STUDIES["cifar10_vgg19"], paper.STUDIES["cifar10_resnet18"])
    for net in (1, 2)
}
NETWORKS |= {"VGG19 odd": factory("VGG19", ODD_VGG19), "ResNet18 odd": factory("ResNet18", ODD_RESNET18)}
NETWORKS |= {name: application(name) for name in ("MobileNetV2", "ResNet50V2", "DenseNet121")}


def examine(name, dataset):
    """Train and export one network; return its line of results."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=False)
    for x, y in itertools.islice(iter(dataset.train.repeat()), FLAGS.steps):
        model.train_on_batch(x, y)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_model(model, folder, ["all"], dataset.test, dataset.train)
        except VerificationError as e:
            report = e.report
    seconds = time.perf_counter() - begin
    deployed = vars(cost(model).deployed)
    facts = {"network": name, "steps": FLAGS.steps, "seconds": seconds, "deployed": deployed}
    return facts | {"formats": plain(report)}


def finished():
    """Return the results that the output folder holds, as `{network: line}`."""
    path = pathlib.Path(FLAGS.output) / "exports.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["network"]: line for line in map(json.loads, lines)}


def text(row, key, form):
    """Format a figure of a report; a check that ended early has left it out."""
    return "n/a" if row.get(key) is None else format(row[key], form)


def table(results):
    """Render the results as a Markdown table, with the failures below it."""
    body, failed = [], []
    for line in results:
        network = f"{line['network']}, {line['steps']} batches"
        macs = line["deployed"]["macs"]
        for name, row in line["formats"].items():
            failed += [f"{network}, {name}: {problem}" for problem in row["problems"]]
            found = row.get("macs")
            same = "n/a" if found is None else "both" if found == macs else f"{found:,}"
            body.append(
                (
                    network,
                    name,
                    "failed" if row["problems"] else "verified",
                    text(row, "bytes", ",d"),
                    f"{macs:,} / {same}",
                    text(row, "params", ",d"),
                    f"{text(row, 'difference', '.1e')} ({text(row, 'worst', '.1e')})",
                    text(row, "agreement", ".2f"),
                    f"{text(row, 'accuracy', '.2f')} / {text(row, 'keras_accuracy', '.2f')}",
                )
            )
    header = ("network", "format", "status", "bytes", "MACs, Keras / file", "parameters")
    header += ("difference (worst)", "same class, %", "accuracy, file / Keras, %")
    return "\n".join([*markdown_table(header, body), "", *failed])


def main(argv):
    """Export the networks that are missing; print the table of all networks."""
    names = argv[1:] or list(NETWORKS)
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise app.UsageError(f"Expected names among {list(NETWORKS)}. Received: {unknown}")
    folder = pathlib.Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = data.load(
        FLAGS.data,
        batch_size=64,
        augment="none",
        train_examples=10000,
        test_examples=FLAGS.test_examples,
    )
    for name in names:
        if name not in finished():
            line = examine(name, dataset)
            with open(folder / "exports.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {line['seconds']:.0f} s", flush=True)
    results = finished()
    print(table([results[name] for name in NETWORKS if name in results]))


if __name__ == "__main__":
    define_flags()
    app.run(main)
