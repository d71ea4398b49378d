"""TinyImageNet for TensorFlow Datasets: `tfds.builder("tiny_imagenet")` once this is imported.

200 classes of ImageNet, 500 training and 50 validation images of 64 x 64 pixels each; the official test
images have no labels, so the validation images are what accuracy is measured on.
"""

import tensorflow_datasets as tfds

from adprune_keras.files import limits

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
FOLDER = "tiny-imagenet-200"
NAME = "tiny_imagenet"  # as TensorFlow Datasets calls it
_SIDE = 64  # pixels
# The official archive has some 120,000 members, which take some 500 MB; the largest text 400 KB.
_MOST_BYTES, _MOST_MEMBERS, _MOST_TEXT = 2 << 30, 250_000, 16 << 20
_LAYOUT = f"{FOLDER}/ with wnids.txt, train/<wnid>/images/ and val/val_annotations.txt, val/images/"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """TinyImageNet from the official archive: downloaded, or put by hand where tfds looks.

    By hand: `tiny-imagenet-200.zip`, or the folder of that name, in `<data_dir>/downloads/manual`. It
    may hold fewer classes than the official one; they are numbered in the order of its `wnids.txt`.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {FOLDER}.zip, or the folder in it, here. Without them it is downloaded from {URL}."
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="200 classes of ImageNet at 64 x 64 pixels, 500 training images each.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(),  # the names are in wnids.txt
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager):
        root = _put_by_hand(dl_manager) or dl_manager.download_and_extract(URL) / FOLDER
        wnids = _text(root / "wnids.txt").split()
        if not all(map(limits.is_name, wnids)) or len(set(wnids)) < len(wnids):
            raise ValueError(
                "wnids.txt names each class once, as its folder is called. "
                f"Received: {wnids[:5]} ... in {root}"
            )
        self.info.features["label"].names = wnids
        return {
            "train": self._generate_examples(_train(root, wnids)),
            "validation": self._generate_examples(_validation(root, wnids)),
        }

    def _generate_examples(self, labelled):
        for path, wnid in labelled:
            if limits.image_size(path) != (_SIDE, _SIDE):
                raise ValueError(
                    f"TinyImageNet has images of {_SIDE} x {_SIDE} pixels. Received: {path}"
                )
            yield path.name, {"image": path, "label": wnid}


def manual_source(directory):
    """Return the archive or folder that was put into a directory by hand, or `None`.

    Args:
        directory: path-like; it need not exist.
    """
    for name in (FOLDER, f"{FOLDER}.zip"):
        path = tfds.core.Path(directory) / name
        if path.exists():
            return path
    return None


def _put_by_hand(dl_manager):
    try:
        found = manual_source(dl_manager.manual_dir)
    except AssertionError:  # no such folder, or nothing in it
        return None
    if found is None or found.suffix != ".zip":
        return found
    limits.check_zip(found, FOLDER, _MOST_BYTES, _MOST_MEMBERS)
    return dl_manager.extract(found) / FOLDER


def _train(root, wnids):
    for wnid in wnids:
        folder = root / "train" / wnid / "images"
        images = sorted(folder.iterdir()) if folder.exists() else []
        if not images:
            raise ValueError(
                f"TinyImageNet is {_LAYOUT}. Received: {root}, which has no images in {folder}"
            )
        yield from ((image, wnid) for image in images)


def _validation(root, wnids):
    for line in _text(root / "val" / "val_annotations.txt").splitlines():
        name, wnid = (*line.split("\t"), "")[:2]
        image = root / "val" / "images" / name
        if wnid not in wnids or not limits.is_name(name) or not image.exists():
            raise ValueError(
                f"val_annotations.txt names images and the classes of wnids.txt. Received: {line!r} in "
                f"{root}, where there is no such {'class' if wnid not in wnids else 'image'}"
            )
        yield image, wnid


def _text(path):
    if not path.exists():
        raise ValueError(f"TinyImageNet is {_LAYOUT}. Received: {path.parent}, without {path.name}")
    try:
        limits.check_size("it", path.stat().length, _MOST_TEXT)
        return path.read_text()
    except ValueError as e:  # UnicodeDecodeError is one
        raise ValueError(f"TinyImageNet is {_LAYOUT}. Received: {path}: {e}") from e
