"""Which images, and how they are augmented."""

import dataclasses

from adprune_keras.settings import check, setting

AUGMENTATIONS = ("auto", "none", "crop", "crop_flip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where images come from.

    Raises:
        ValueError: a value that a setting cannot have, by name.
    """

    dataset: str | None = setting(
        "digits",
        "'digits' (bundled with scikit-learn, so that nothing need be fetched), an .npz file with "
        "x_train y_train x_test y_test, a directory with one folder per class, or a name of "
        "TensorFlow Datasets such as cifar10.",
    )
    data_dir: str | None = setting(
        None, "Where TensorFlow Datasets keeps its data; default: ~/tensorflow_datasets."
    )
    download: bool = setting(False, "Let TensorFlow Datasets fetch what is not there.")
    image_size: int | None = setting(
        None,
        "Resize images to this many pixels square; needed where they differ in size. Default: as they "
        "are.",
        least=8,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """How many images are used, and how those for training are augmented.

    Raises:
        ValueError: a value that a setting cannot have, by name.
    """

    train_examples: int | None = setting(
        None, "Use so many training images, the first ones. Default: all.", least=1
    )
    test_examples: int | None = setting(
        None, "Use so many test images, the first ones. Default: all.", least=1
    )
    augment: str = setting(
        "auto",
        "Augmentation of training images, each on its own; auto: crop and flip for colour images of 24 "
        "pixels or more, none for others (a mirrored digit is not a digit).",
        choices=AUGMENTATIONS,
    )

    def __post_init__(self) -> None:
        check(self)
