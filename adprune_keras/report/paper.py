"""What the paper prints, to lie beside a run's own figures. Accuracies are in percent.

Slips of the print: VGG-19's net0 has 14 of its 16 widths (given whole here); Table II's CIFAR-10 VGG-19
"net 1" is net2's (100 + 70/5.6 + 210/27.4 = 120.2); CIFAR-100 ResNet18 has 5.1x OPS where its widths
give 4.74x; Table IV's own memory complexities do not follow from its formula (114.7 and 143.0 would).
"""

from dataclasses import dataclass

RESNET18 = (64, 64, 64, 64, 64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512)
VGG19 = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)


@dataclass(frozen=True)
class Net:
    """One row of Table I.

    Attributes:
        widths: tuple of ints, its "Configuration".
        accuracy: float, percent, after a full training cycle.
        params: float, parameters reduction.
        ops: float, OPS reduction.
        epochs: int, training epochs to rho; `None` where the table says "N/A".
        final: bool, whether the table highlights it as the final net.
    """

    widths: tuple
    accuracy: float
    params: float
    ops: float
    epochs: int | None = None
    final: bool = False


@dataclass(frozen=True)
class Study:
    """One data set and network of the paper.

    Attributes:
        dataset: its name in TensorFlow Datasets.
        classes: int.
        network: name of the factory.
        cycle: int, epochs of the full training cycle.
        nets: tuple of `Net`, Table I.
        complexity: `{index of a net: training complexity}`, Table II as printed.
    """

    dataset: str
    classes: int
    network: str
    cycle: int
    nets: tuple
    complexity: dict


STUDIES = {
    "cifar10_resnet18": Study(
        "cifar10",
        10,
        "ResNet18",
        210,
        (
            Net(RESNET18, 97, 1, 1, 100),
            Net(
                (34, 29, 41, 25, 33, 58, 78, 27, 65, 71, 83, 46, 69, 120, 191, 219, 288),
                *(97, 7.3, 6.0, 70),
            ),
            Net(
                (21, 16, 30, 10, 22, 24, 47, 9, 39, 26, 48, 12, 39, 41, 85, 63, 188),
                *(95, 41.2, 23.2, 70, True),
            ),
            Net(
                (14, 9, 21, 5, 15, 13, 32, 5, 26, 13, 34, 5, 25, 21, 45, 12, 142),
                *(91, 199.3, 67.1),
            ),
        ),
        {0: 210.0, 1: 135.0, 2: 120.8},
    ),
    "cifar10_vgg19": Study(
        "cifar10",
        10,
        "VGG19",
        210,
        (
            Net(VGG19, 97, 1, 1, 100),
            Net(
                (18, 23, 47, 25, 54, 51, 62, 61, 197, 258, 378, 322, 402, 383, 259, 134),
                *(94, 3.1, 5.6, 70, True),
            ),
            Net(
                (10, 9, 30, 11, 21, 31, 22, 21, 62, 70, 113, 141, 256, 299, 194, 71),
                *(93, 10.3, 27.4),
            ),
        ),
        {0: 210.0, 2: 120.2},
    ),
    "cifar100_resnet18": Study(
        "cifar100",
        100,
        "ResNet18",
        210,
        (
            Net(RESNET18, 81.0, 1, 1, 25),
            Net(
                (39, 31, 49, 24, 44, 54, 90, 36, 84, 88, 155, 65, 136, 130, 231, 105, 300),
                *(79.0, 7.6, 5.1, None, True),
            ),
        ),
        {0: 210.0, 1: 66.2},
    ),
    "cifar100_vgg19": Study(
        "cifar100",
        100,
        "VGG19",
        210,
        (
            Net(VGG19, 76.0, 1, 1, 25),
            Net(
                (34, 23, 51, 30, 63, 63, 73, 82, 210, 285, 333, 357, 317, 259, 181, 106),
                *(73.0, 3.9, 5.3, None, True),
            ),
        ),
        {0: 210.0, 1: 64.6},
    ),
    "tinyimagenet_resnet18": Study(
        "tiny_imagenet",
        200,
        "ResNet18",
        60,
        (
            Net(RESNET18, 51.54, 1, 1, 25),
            Net(
                (31, 21, 47, 27, 48, 62, 99, 58, 94, 85, 161, 69, 133, 93, 152, 56, 247),
                *(50.51, 10.6, 4.7, None, True),
            ),
        ),
        {0: 60.0, 1: 37.7},
    ),
}


@dataclass(frozen=True)
class Published:
    """A row of Table III or IV: somebody's figures as the paper prints them.

    Attributes:
        authors: as the paper names them.
        network: name of the factory.
        complexity: float, training complexity (Table III) or training memory complexity (Table IV).
        accuracy: float, percent.
        params: float, parameters reduction.
        ops: float or `None`, OPS reduction.
    """

    authors: str
    network: str
    complexity: float
    accuracy: float
    params: float
    ops: float | None


TABLE_3 = (  # VGG-19, CIFAR-100
    Published("Garg et al.", "VGG19", 206.6, 71, 9.1, 3.9),
    Published("Liu et al.", "VGG19", 260.0, 73, 8.7, 1.6),
    Published("the paper", "VGG19", 64.6, 73, 3.9, 5.3),
)
TABLE_4 = (  # CIFAR-10
    Published("LTH", "ResNet18", 206.45, 93, 5.6, None),
    Published("the paper", "ResNet18", 120.8, 95, 41.2, 23.2),
    Published("LTH", "VGG19", 105.1, 93, 35.7, None),
    Published("the paper", "VGG19", 129.4, 93, 10.3, 27.4),
)
