import os
import pathlib
import shutil
import socket
import tempfile
import zipfile

import numpy as np
import pytest
from toys import png

tf = pytest.importorskip("tensorflow")
import tensorflow_datasets as tfds  # noqa: E402

from adprune_keras import data  # noqa: E402
from adprune_keras.data.sources import tiny_imagenet  # noqa: E402

WNIDS = ("n02124075", "n01641577", "n07749582")  # not in alphabetical order, as in the official list
TRAIN, VALIDATION = 4, 2  # images a class


def jpeg(level, channels):
    return tf.io.encode_jpeg(np.full((64, 64, channels), level, "uint8"), quality=95).numpy()


def official(root):
    """Write the official layout: greyscale images among the others, validation images in one folder."""
    folder = pathlib.Path(root) / tiny_imagenet.FOLDER
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    annotations = []
    for n, wnid in enumerate(WNIDS):
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i in range(TRAIN):
            path = folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            path.write_bytes(jpeg(40 * n + 5 * i, 1 if i == 1 else 3))
        for i in range(VALIDATION):
            name = f"val_{len(WNIDS) * i + n}.JPEG"
            (folder / "val" / "images" / name).write_bytes(jpeg(40 * n + 5 * i + 22, 3))
            annotations.append(f"{name}\t{wnid}\t0\t10\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(sorted(annotations)))
    return folder


def labels_by_level(dataset):
    """`{class: levels of grey}`, pixels as they were in the files."""
    found = {}
    for x, y in dataset.test.unbatch().as_numpy_iterator():
        level = int(np.round(x[0, 0, 0] * dataset.std[0] + dataset.mean[0]))
        found.setdefault(int(y), set()).add(level)
    return found


class _Case:
    DATASET_CLASS = tiny_imagenet.TinyImagenet
    SPLITS = {"train": len(WNIDS) * TRAIN, "validation": len(WNIDS) * VALIDATION}  # noqa: RUF012
    MADE_IN = ""

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        official(os.path.join(cls.EXAMPLE_DIR, cls.MADE_IN))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


class TestByHand(_Case, tfds.testing.DatasetBuilderTestCase):
    """The folder lies where the user put it."""


class TestDownloaded(_Case, tfds.testing.DatasetBuilderTestCase):
    """Nothing was put by hand: the official address, whose checksum is registered."""

    MADE_IN = DL_EXTRACT_RESULT = "archive"


def test_checksum_of_the_official_archive():
    registered = tiny_imagenet.TinyImagenet.url_infos[tiny_imagenet.URL]
    assert (registered.size, len(registered.checksum)) == (248100043, 64)


@pytest.mark.parametrize("packed", [True, False])
def test_prepared_by_name_from_what_was_put_by_hand(tmp_path, packed, monkeypatch):
    """No network, no --download: zip or folder by hand, classes in the order of wnids.txt."""
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("network"))
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    official(manual if not packed else tmp_path / "made")
    if packed:
        files = [p for p in (tmp_path / "made").rglob("*") if p.is_file()]
        with zipfile.ZipFile(manual / "tiny-imagenet-200.zip", "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(tmp_path / "made"))
    loaded = data.load("tiny_imagenet", data_dir=str(tmp_path), batch_size=4)
    assert (loaded.classes, loaded.input_shape) == (3, (64, 64, 3))
    assert (loaded.train_examples, loaded.test_examples) == (12, 6)
    assert labels_by_level(loaded) == {n: {40 * n + 22, 40 * n + 27} for n in range(3)}


def test_neither_network_nor_data_names_both_ways(tmp_path):
    with pytest.raises(ValueError, match=r"--download.*put the official tiny-imagenet-200.zip into"):
        data.load("tiny_imagenet", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "wnids.txt").unlink(), "without wnids.txt"),
        (lambda f: shutil.rmtree(f / "train" / WNIDS[1]), f"no images in .*{WNIDS[1]}"),
        (lambda f: (f / "val" / "images" / "val_0.JPEG").unlink(), "no such image"),
        (
            lambda f: (f / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\t0\t0\t1\t1\n"),
            r"val_0.JPEG.*n99.*no such class",
        ),
        (
            lambda f: (f / "val" / "val_annotations.txt").write_text(
                f"../images/val_0.JPEG\t{WNIDS[0]}\t0\t0\t1\t1\n"
            ),
            r"../images/val_0.JPEG.*no such image",
        ),
        (
            lambda f: (f / "wnids.txt").write_text("../train/n01641577\n"),
            "wnids.txt names each class once",
        ),
        (lambda f: (f / "wnids.txt").write_text("n01641577\n" * 2), "wnids.txt names each class once"),
        (lambda f: (f / "wnids.txt").write_bytes(b"\xff\xfe"), "wnids.txt: .* can't decode"),
        (
            lambda f: (f / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG").write_bytes(
                png(64, 63)
            ),
            rf"images of 64 x 64 pixels. Received: .*{WNIDS[0]}_0.JPEG",
        ),
        (
            lambda f: (f / "val" / "images" / "val_0.JPEG").write_bytes(png(50_000, 50_000)),
            r"at most 67,108,864 pixels. Received: .*val_0.JPEG",
        ),
    ],
)
def test_another_layout_is_refused_by_name(tmp_path, spoil, message):
    spoil(official(tmp_path / "downloads" / "manual"))
    with pytest.raises(ValueError, match=message):
        data.load("tiny_imagenet", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):  # nothing half-made is taken for prepared
        data.load("tiny_imagenet", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "other/evil", "tiny-imagenet-200/../../evil"])
def test_archive_that_leaves_its_folder_is_not_unpacked(tmp_path, name):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    with zipfile.ZipFile(manual / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n01641577")
        archive.writestr(name, "x")
    with pytest.raises(
        ValueError, match=r"not unpacked. Received: .*tiny-imagenet-200.zip, but its member"
    ):
        data.load("tiny_imagenet", data_dir=str(tmp_path))
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(tmp_path.rglob("extracted/*"))


def test_text_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "_MOST_TEXT", 10)
    official(tmp_path / "downloads" / "manual")
    with pytest.raises(ValueError, match=r"wnids.txt: it would take 30 bytes, and 10 are allowed"):
        data.load("tiny_imagenet", data_dir=str(tmp_path))
