import itertools
import json
import socket
import sys

import keras
import numpy as np
import pytest
from toys import png

pytest.importorskip("tensorflow")

from adprune_keras import data
from adprune_keras.data.batches import augmented
from adprune_keras.data.sources.registry import SOURCES, source_of
from adprune_keras.files import limits


def write_npz(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (30, 12, 12, 3), "uint8"),
        "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (9, 12, 12, 3), "uint8"),
        "y_test": np.arange(9) % 3,
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return str(path)


def stacked(dataset):
    x, y = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def test_digits():
    loaded = data.load("digits", batch_size=64)
    assert loaded.facts()["input_shape"] == (8, 8, 1)
    assert (loaded.classes, loaded.train_examples, loaded.test_examples) == (10, 1437, 360)
    x, y = stacked(loaded.train)
    assert (x.shape, x.dtype, sorted(set(y))) == ((1437, 8, 8, 1), np.float32, list(range(10)))
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-5)
    again = stacked(data.load("digits", batch_size=64).test)
    np.testing.assert_array_equal(stacked(loaded.test)[0], again[0])


def test_digits_test_images_are_not_trained_on():
    loaded = data.load("digits")
    train = {image.tobytes() for image in stacked(loaded.train)[0]}
    assert not any(image.tobytes() in train for image in stacked(loaded.test)[0])


def test_npz(tmp_path):
    loaded = data.load(write_npz(tmp_path / "d.npz"), batch_size=8, augment="none")
    assert (loaded.classes, loaded.input_shape) == (3, (12, 12, 3))
    x, y = stacked(loaded.test)
    assert list(y) == list(np.arange(9) % 3)
    raw = np.load(tmp_path / "d.npz")["x_test"]
    np.testing.assert_allclose(x * loaded.std + loaded.mean, raw, atol=1e-3)
    first, second = stacked(loaded.train)[1], stacked(loaded.train)[1]
    assert list(first) != list(second)  # shuffled anew
    assert sorted(first) == sorted(second)


def test_grey_images_and_column_labels(tmp_path):
    path = write_npz(
        tmp_path / "d.npz",
        x_train=np.zeros((30, 9, 9), "uint8"),
        x_test=np.zeros((9, 9, 9), "uint8"),
        y_train=(np.arange(30) % 3)[:, None],
    )
    assert data.load(path).input_shape == (9, 9, 1)


def test_first_examples_and_image_size(tmp_path):
    path = write_npz(tmp_path / "d.npz")
    loaded = data.load(path, train_examples=12, test_examples=100, image_size=24, batch_size=5)
    assert (loaded.train_examples, loaded.test_examples) == (12, 9)
    assert loaded.input_shape == (24, 24, 3)
    assert [len(y) for _, y in loaded.train] == [5, 5, 2]


def test_same_seed_same_order_and_augmentation(tmp_path):
    path = write_npz(tmp_path / "d.npz")

    def epochs(seed):
        train = data.load(path, seed=seed, batch_size=7, augment="crop_flip").train
        return [stacked(train)[0] for _ in range(2)]

    a, b, other = epochs(1), epochs(1), epochs(2)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])
    assert not np.array_equal(a[0], other[0])


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_an_epoch_follows_from_the_seed_and_its_number(tmp_path, augment):
    """Whatever was drawn before: a new process that goes on from it sees the same."""
    path = write_npz(tmp_path / "d.npz")

    def epochs(first, count, seed=0, global_seed=0):
        keras.utils.set_random_seed(global_seed)
        loaded = data.load(path, seed=seed, batch_size=7, augment=augment)
        assert loaded.steps == 5
        batches = [np.asarray(x) for x, _ in itertools.islice(loaded.epochs(first), 5 * count)]
        assert [len(x) for x in batches] == [7, 7, 7, 7, 2] * count
        return [np.concatenate(batches[i : i + 5]) for i in range(0, 5 * count, 5)]

    four = epochs(0, 4)
    plain = itertools.islice(data.load(path, batch_size=7, augment="none").epochs(0), 20)
    orders = np.concatenate([np.asarray(x)[:, 0, 0, 0] for x, _ in plain]).reshape(4, 30)
    assert len({tuple(order) for order in orders}) == 4  # not just augmented anew
    np.testing.assert_array_equal(epochs(2, 2, global_seed=5), four[2:])
    assert len({x.tobytes() for x in [*four, *epochs(0, 1, seed=1)]}) == 5


def test_each_image_is_shifted_and_mirrored_on_its_own():
    image = np.arange(24 * 24 * 3, dtype="float32").reshape(24, 24, 3) % 251
    batch = np.repeat(image[None].astype("uint8"), 64, axis=0)
    out = augmented(batch, np.array([1, 2]), flip=True).numpy()
    kinds = {o.tobytes() for o in out}
    assert out.shape == batch.shape
    assert len(kinds) > 20
    padded = np.pad(batch[0], ((3, 3), (3, 3), (0, 0)))
    allowed = {
        view.tobytes()
        for y in range(7)
        for x in range(7)
        for crop in [padded[y : y + 24, x : x + 24]]
        for view in (crop, crop[:, ::-1])
    }
    assert kinds <= allowed


def test_folder_per_class(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 256, (10, 14, 3)).astype("float32")
                keras.utils.save_img(tmp_path / split / label / f"{i}.png", image)
    loaded = data.load(str(tmp_path))
    assert (loaded.classes, loaded.input_shape) == (2, (10, 14, 3))
    assert (loaded.train_examples, loaded.test_examples) == (8, 4)
    split = data.load(str(tmp_path / "train"), image_size=8)
    assert (split.train_examples, split.test_examples) == (7, 1)
    assert split.input_shape == (8, 8, 3)


def toy_builder(tfds):
    """Return a builder of 12 x 12 images in three classes, without its splits."""

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(12, 12, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                homepage="https://example.org/",
            )

    return Toy


def test_prepared_tfds(tmp_path):
    """A data set of TensorFlow Datasets, prepared for real, found by its name and loaded."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class ToyShapes(toy_builder(tfds)):
        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(9), "test": self._generate_examples(4)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.full((12, 12, 3), 20 * i, "uint8"), "label": i % 3}

    with pytest.raises(ValueError, match=r"'toy_shapes' is not prepared in"):
        data.load("toy_shapes", data_dir=str(tmp_path))
    ToyShapes(data_dir=str(tmp_path)).download_and_prepare()
    loaded = data.load("toy_shapes", batch_size=5, data_dir=str(tmp_path))
    assert (loaded.classes, loaded.input_shape) == (3, (12, 12, 3))
    assert (loaded.train_examples, loaded.test_examples) == (9, 4)
    x, y = stacked(loaded.test)
    levels = np.round(x[:, 0, 0, 0] * loaded.std[0] + loaded.mean[0])
    assert {(int(p), int(label)) for p, label in zip(levels, y, strict=True)} == {
        (0, 0), (20, 1), (40, 2), (60, 0)
    }  # fmt: skip


def legacy(features):
    """Features as older versions of TensorFlow Datasets wrote them."""
    return {
        "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "content": {
            name: {"type": feature["pythonClassName"], "content": {}}
            for name, feature in features.items()
        },
    }


def current(features):
    return {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def nested(features):
    return {
        "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
        "sequence": {"feature": current(features)},
    }


@pytest.mark.parametrize("name", ["pictures", "pictures:1.0.0", "cifar10:3.0.2"])
@pytest.mark.parametrize("layout", [legacy, current, nested])
def test_a_data_set_folder_imports_no_module(tmp_path, monkeypatch, name, layout):
    """Nor does it take the place of a data set that is known."""
    pytest.importorskip("tensorflow_datasets")
    kind, version = (*name.split(":"), "1.0.0")[:2]
    folder = tmp_path / "data" / kind / version
    folder.mkdir(parents=True)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/trap.py").write_text("raise SystemExit('the module was imported')")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    split = {"name": "train", "shardLengths": ["1"], "numBytes": "1"}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": kind, "version": version, "fileFormat": "tfrecord", "splits": [split]}
    features = {what: {"pythonClassName": f"trap.{what}"} for what in ("image", "label")}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(layout(features)))
    with pytest.raises(
        ValueError, match=f"code from elsewhere. Received: '{name}' .*'trap.(image|label)'"
    ):
        data.load(name, data_dir=str(tmp_path / "data"))
    assert "trap" not in sys.modules


def test_labels_of_tfds_outside_the_classes(tmp_path):
    """Test images without labels have -1 there: what is measured on them means nothing."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Unlabelled(toy_builder(tfds)):
        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(3)), "test": self._generate_examples([-1])}

        def _generate_examples(self, labels):
            for i in labels:
                yield i, {"image": np.zeros((12, 12, 3), "uint8"), "label": i}

    Unlabelled(data_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(
        ValueError, match=r"Received: -1 to -1 in split 'test' of 'unlabelled', which has 3"
    ):
        data.load("unlabelled", data_dir=str(tmp_path))


def test_tfds_that_is_not_prepared_says_so_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"'cifar10' is not prepared in .*--download.*--data_dir"):
        data.load("cifar10", data_dir=str(tmp_path))


def test_download_without_a_network_fails_in_seconds(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ValueError, match=r"cannot be downloaded from .*: no network. Either run"):
        data.load("cifar10", data_dir=str(tmp_path), download=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11", r"Received: 'cifar11', which is none of them. Did you mean 'cifar10"),
        ("no/such/thing", "which is none of them"),
        ("missing.npz", "There is no such file. Received: missing.npz"),
    ],
)
def test_unknown_data(name, message):
    with pytest.raises(ValueError, match=message):
        data.load(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "it has no array y_test"),
        ({"y_train": np.arange(30) % 3 - 1}, "y_train has the label -1, below 0"),
        ({"y_test": np.full(9, 3)}, r"out of range.*highest label, 3 different labels in y_train"),
        ({"y_train": np.arange(30) % 2 * 7}, r"out of range.*Received: 7 as the highest label, 2"),
        ({"y_train": np.zeros(29, int)}, "train has 30 images and 29 labels"),
        ({"y_train": np.zeros(30)}, "y_train has shape .* and dtype float64"),
        ({"x_train": np.zeros((30, 12, 12, 3))}, "x_train has shape .* and dtype float64"),
        ({"x_test": np.zeros((0, 12, 12, 3), "uint8"), "y_test": np.zeros(0, int)}, "test has 0"),
        ({"x_train": np.array([{}] * 30)}, "Object arrays cannot be loaded"),
    ],
)
def test_bad_npz(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        data.load(write_npz(tmp_path / "d.npz", **changes))
    assert "Received: " in str(error.value)


@pytest.mark.parametrize("keep", [0, 10, 500, -30])
def test_damaged_npz(keep, tmp_path):
    path = tmp_path / "d.npz"
    write_npz(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"An .npz data set holds .* Received: .*d.npz, but"):
        data.load(str(path))


def test_images_of_mixed_sizes_and_empty_folders(tmp_path):
    with pytest.raises(ValueError, match="has no image"):
        data.load(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "rotate"}, "`augment` must be one of .* Received: augment='rotate'"),
        ({"batch_size": 0}, "`batch_size` must be an int of at least 1. Received: 0"),
        ({"train_examples": -3}, "`train_examples` must be"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", **settings)


def test_processes_share_every_batch():
    settings = {"batch_size": 5, "train_examples": 16, "test_examples": 12, "augment": "none"}
    whole = data.load("digits", **settings)
    shares = [data.load("digits", **settings, processes=(2, i)) for i in range(2)]
    for split, sizes in (("train", [5, 5, 5, 1]), ("test", [5, 5, 2])):
        batches = [x.numpy() for x, _ in getattr(whole, split)]
        assert [len(x) for x in batches] == sizes
        first, second = [[x.numpy() for x, _ in getattr(share, split)] for share in shares]
        assert [len(x) for x in first] == [len(x) for x in second] == [n // 2 for n in sizes if n > 1]
        for x, one, two in zip(batches, first, second, strict=False):
            np.testing.assert_array_equal(one, x[0 : len(x) // 2 * 2 : 2])
            np.testing.assert_array_equal(two, x[1 : len(x) // 2 * 2 : 2])
    with pytest.raises(
        ValueError, match=r"at least the number of devices. Received: batch_size=1, 1437 "
    ):
        data.load("digits", batch_size=1, processes=(2, 0))


def test_no_device_gets_fewer_images_than_another():
    """What is left over of a batch nobody gets: else TensorFlow dies, and Keras on JAX refuses."""
    settings = {"batch_size": 8, "train_examples": 17, "test_examples": 15, "augment": "none"}
    loaded = data.load("digits", **settings, replicas=3)
    assert [len(y) for _, y in loaded.train] == [6, 6]
    assert [len(y) for _, y in loaded.test] == [6, 6]
    share = data.load("digits", **settings, processes=(2, 1), replicas=2)
    assert [len(y) for _, y in share.train] == [4, 4]
    assert [len(y) for _, y in share.test] == [4, 2]
    for few in ({"batch_size": 2}, {"train_examples": 2}, {"test_examples": 2}):
        with pytest.raises(ValueError, match=r"Each device needs an image of a batch.* 3 devices"):
            data.load("digits", **(settings | few), replicas=3)


def test_one_class_is_none(tmp_path):
    path = write_npz(tmp_path / "d.npz", y_train=np.zeros(30, int), y_test=np.zeros(9, int))
    with pytest.raises(ValueError, match=r"two classes or more. Received: 1 in '.*d.npz'"):
        data.load(path)
    (tmp_path / "only" / "cat").mkdir(parents=True)
    for i in range(5):
        keras.utils.save_img(tmp_path / "only" / "cat" / f"{i}.png", np.zeros((9, 9, 3)))
    with pytest.raises(ValueError, match=r"two classes or more. Received: 1 in"):
        data.load(str(tmp_path / "only"))


@pytest.mark.parametrize("shape", [(9, 12, 10, 3), (9, 12, 12, 1), (9, 12, 12)])
def test_test_images_of_another_shape(tmp_path, shape):
    with pytest.raises(ValueError, match=r"must have the same shape .* \(12, 12, 3\) and \(12, 1"):
        data.load(write_npz(tmp_path / "d.npz", x_test=np.zeros(shape, "uint8")))


def test_images_without_pixels(tmp_path):
    empty = {f"x_{part}": np.zeros((n, 12, 0, 3), "uint8") for part, n in (("train", 30), ("test", 9))}
    with pytest.raises(ValueError, match=r"none of it 0. Received: \(12, 0, 3\)"):
        data.load(write_npz(tmp_path / "d.npz", **empty))


def test_arrays_and_batches_larger_than_memory(tmp_path, monkeypatch):
    """x_train has 30 * 432 bytes, x_test 9 * 432; a batch of 8 float32 images takes 8 * 1,728."""
    path = write_npz(tmp_path / "d.npz")
    monkeypatch.setattr(limits, "memory", lambda: 2 * 16_000)
    with pytest.raises(
        ValueError, match=r"An .npz data set .* its arrays would take 17,\d+ bytes, and 16,000"
    ):
        data.load(path)
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"Images are too large.*a batch of \(\d+, \d+, 3\) images would"
    ):
        data.load(path, image_size=10**6)


def test_image_bomb_in_a_class_folder(tmp_path):
    """50,000 x 50,000 pixels in 200 bytes; and an image that says it is small, and is cut off."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(5):
            keras.utils.save_img(tmp_path / label / f"{i}.png", np.zeros((9, 9, 3)))
    bomb = tmp_path / "cat" / "z.png"
    bomb.write_bytes(png(50_000, 50_000))
    with pytest.raises(ValueError, match=r"An image .* at most 67,108,864 pixels. Received: .*z.png"):
        data.load(str(tmp_path), image_size=8)
    bomb.unlink()
    (tmp_path / "cat" / "0.png").write_bytes(png(50_000, 50_000))  # the one whose size all would take
    with pytest.raises(ValueError, match=r"at most 67,108,864 pixels. Received: .*0.png"):
        data.load(str(tmp_path))
    (tmp_path / "cat" / "0.png").write_bytes(png(9, 9)[:-30])
    with pytest.raises(ValueError, match=r"An image cannot be decoded. Received: .*: Invalid PNG"):
        data.load(str(tmp_path), seed=1)


def test_image_that_breaks_when_it_is_read(tmp_path):
    """Statistics look at training images alone; that a test image is cut off shows later."""
    import tensorflow as tf

    for part in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            keras.utils.save_img(folder / "0.png", np.zeros((9, 9, 3)))
    (tmp_path / "test" / "dog" / "0.png").write_bytes(png(9, 9)[:-30])
    loaded = data.load(str(tmp_path))
    with (
        pytest.raises(ValueError, match="An image cannot be decoded. Received: 'mine'"),
        data.reading("mine"),
    ):
        list(loaded.test)
    with pytest.raises(tf.errors.InvalidArgumentError), data.reading("mine"):  # not an image's fault
        tf.reshape(tf.zeros(3), [2])


@pytest.mark.parametrize("name", ["huggingface:some_set", "user:toy", "../x", "a b", "x:y:z", ""])
def test_names_that_would_lead_elsewhere(name):
    """TensorFlow Datasets fetches and runs the code of a data set in a namespace."""
    with pytest.raises(ValueError, match="which is none of them|No images in one folder"):
        data.load(name)


def test_each_name_has_one_source(tmp_path):
    names = ("digits", str(tmp_path / "none.npz"), str(tmp_path), "cifar10", "")
    found = [source_of(name).__name__.rpartition(".")[2] for name in names]
    assert found == ["digits", "npz", "folders", "tfds", "tfds"]
    assert len(SOURCES) == 4
