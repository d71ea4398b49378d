"""Data sets of TensorFlow Datasets, by name."""

import contextlib
import re
import socket
import sys
import urllib.parse

from adprune_keras.data.split import Split
from adprune_keras.text import did_you_mean, printable

_LABELS_FROM = 10_000  # examples of a split whose labels are looked at, where all would take too long
# A name, its configuration and its version: never a namespace, from which code would be fetched and run.
_TFDS_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?", re.ASCII)


@contextlib.contextmanager
def _importing_nothing(name):
    """Let a prepared data set name the classes of its features only where their modules are imported.

    TensorFlow Datasets imports any module that `features.json` in a folder names, and a folder may come
    from elsewhere. Its own features are imported with it; those of a user's own are where the user has
    imported them.
    """
    import tensorflow_datasets as tfds

    features, refused = tfds.features.FeatureConnector, []
    original, cls_from_name = vars(features)["cls_from_name"], features.cls_from_name

    def known_class(cls, python_class_name):
        if python_class_name.rpartition(".")[0] not in sys.modules:
            refused.append(python_class_name)
            raise ValueError(f"no such class is imported: {python_class_name}")
        return cls_from_name(python_class_name)

    features.cls_from_name = classmethod(known_class)
    try:
        yield
    except Exception as e:
        if not refused:
            raise
        raise ValueError(
            "A prepared data set may only use features of TensorFlow Datasets, as others are code from "
            f"elsewhere. Received: '{name}' with the feature class {printable(refused[0])!r}. If it is "
            "yours, import its module first."
        ) from e
    finally:
        features.cls_from_name = original


def takes(name):
    """True for every name; `load` refuses those that TensorFlow Datasets does not have."""
    return True


def load(request):
    """Return training images, test images and the number of classes."""
    with _importing_nothing(request.name):
        return _prepared(request.name, request.data_dir, request.download)


def _prepared(name, data_dir, download):
    import tensorflow_datasets as tfds

    import adprune_keras.data.sources.tiny_imagenet  # noqa: F401  TensorFlow Datasets knows it from here on

    try:
        if not _TFDS_NAME.fullmatch(name):
            raise ValueError
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as e:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "A data set is 'digits', an .npz file, a directory with one folder per class, or a name "
            f"of TensorFlow Datasets. Received: {name!r}, which is none of them."
            f"{did_you_mean(name, known)}"
        ) from e
    if not builder.is_prepared():
        _fetch(builder, name, download)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise ValueError(
            f"TensorFlow Datasets has '{name}', but it is no image classification set. "
            f"Received: features {sorted(features)}, expected 'image' and 'label'"
        )
    test_name = next((s for s in ("test", "validation") if s in builder.info.splits), None)
    if test_name is None or "train" not in builder.info.splits:
        raise ValueError(
            f"'{name}' needs a train and a test (or validation) split. "
            f"Received: splits {sorted(builder.info.splits)}"
        )
    classes = features["label"].num_classes
    for split in ("train", test_name):
        _check_labels(builder, split, classes)
    splits = (
        Split(
            builder.as_dataset(split=s, as_supervised=True, shuffle_files=False),
            builder.info.splits[s].num_examples,
        )
        for s in ("train", test_name)
    )
    return *splits, classes


def _check_labels(builder, split, classes):
    """Refuse labels outside the classes, such as the -1 of test images without labels."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()}
    ).take(_LABELS_FROM)
    for labels in examples.map(lambda example: example["label"]).batch(1024).as_numpy_iterator():
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"Labels must run from 0 to the number of classes minus 1. Received: {labels.min()} to "
                f"{labels.max()} in split '{split}' of '{builder.name}', which has {classes} classes"
            )


def _fetch(builder, name, download):
    """Download and prepare, if that was asked for and can work; else say how to get the data."""
    from adprune_keras.data.sources import tiny_imagenet

    other_way = (
        f"prepare it elsewhere (`tfds build {name}`) and give the folder as data_dir (`--data_dir`)"
    )
    if name == tiny_imagenet.NAME:
        by_hand = builder.data_dir_root / "downloads" / "manual"
        if tiny_imagenet.manual_source(by_hand):
            return builder.download_and_prepare()
        other_way = f"put the official {tiny_imagenet.FOLDER}.zip into {by_hand}"
    ways = f"Either run once with download on (`--download`) where there is a network, or {other_way}."
    if not download:
        raise ValueError(f"'{name}' is not prepared in {builder.data_dir}. {ways}")
    host = urllib.parse.urlparse(builder.info.homepage).hostname
    try:  # TensorFlow Datasets itself retries for minutes without a network
        socket.create_connection((host, 443), timeout=5).close()
    except OSError as e:
        raise ValueError(f"'{name}' cannot be downloaded from {host}: {e}. {ways}") from e
    builder.download_and_prepare()
