"""The paper's two families as Keras factories: functional models at any widths.

Every layer has a fixed, readable name (`block3_conv2`, `stage2_block1_shortcut_bn`): widths, records
and reports key on it. Images of 8 to 224 pixels and 1 to 4 channels are what the tests run.

The models end in a Dense layer `logits` and a softmax of its own, so `compile` takes the plain
string losses and the export stage can leave the softmax out. Pass `classifier_activation=None`
for logits, with `from_logits=True` in the loss.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from adprune_keras.models.plans import resnet_plan, vgg_plan

if TYPE_CHECKING:
    import keras

_ARGS = """

    Args:
        input_shape: (H, W, C) of one image, ints. Defaults to CIFAR's `(32, 32, 3)`.
        classes: int, number of classes. Defaults to 10.
        widths: `None` for the published widths; or {count} ints in the order of the paper's
            Table I; or `{{layer name: width}}`, which may name some layers only.
        classifier_activation: activation on top of `logits`, or `None`. Defaults to `"softmax"`.

    Returns:
        A `keras.Model` (Functional), not compiled.

    Raises:
        ValueError: `widths` of the wrong length, with an unknown name, or not positive ints.

    Example:

    >>> model = models.{name}(input_shape=(32, 32, 3), classes=10)
    >>> model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    """


class Factory(Protocol):
    """What builds a network of this module."""

    __name__: str

    def __call__(
        self,
        input_shape: Sequence[int] = (32, 32, 3),
        classes: int = 10,
        widths: Sequence[int] | Mapping[str, int] | None = None,
        classifier_activation: str | None = "softmax",
    ) -> "keras.Model":
        """Build the network; not compiled."""


def _factory(name: str, family: str, plan: Callable[[str], dict[str, int]], doc: str) -> Factory:
    def factory(input_shape=(32, 32, 3), classes=10, widths=None, classifier_activation="softmax"):
        built_by = importlib.import_module(f"adprune_keras.models.{family}")  # it needs Keras
        return built_by.build(name, input_shape, classes, widths, classifier_activation)

    factory.__name__ = factory.__qualname__ = name
    factory.__annotations__ = Factory.__call__.__annotations__
    factory.__doc__ = doc + _ARGS.format(name=name, count=len(plan(name)))
    return factory


_VGG = """{0} of Simonyan and Zisserman with batch normalisation, sized as in the paper's Table I.

    3x3 convolutions without bias, each with BN and ReLU; five stages of pooling (as many as the
    image allows: an 8-pixel image is pooled three times, the later poolings are left out), global
    average pooling and one Dense layer."""
_RESNET = """{0} of He et al. (v1: ReLU after the addition), sized as in the paper's Table I.

    A 3x3 stem for images under 128 pixels, the ImageNet stem (7x7 stride 2, max pooling) from
    there on. Wherever a shortcut's two ends differ in stride or width it is a 1x1 projection + BN.
    Widths: the stem's, then those of each block's convolutions; a block's last one is the width
    of its output."""

VGG11 = _factory("VGG11", "vgg", vgg_plan, _VGG.format("VGG-11"))
VGG13 = _factory("VGG13", "vgg", vgg_plan, _VGG.format("VGG-13"))
VGG16 = _factory("VGG16", "vgg", vgg_plan, _VGG.format("VGG-16"))
VGG19 = _factory("VGG19", "vgg", vgg_plan, _VGG.format("VGG-19"))
VGG19First8 = _factory(
    "VGG19First8", "vgg", vgg_plan, _VGG.format("What section III-B leaves of VGG-19")
)
ResNet18 = _factory("ResNet18", "resnet", resnet_plan, _RESNET.format("ResNet-18"))
ResNet34 = _factory("ResNet34", "resnet", resnet_plan, _RESNET.format("ResNet-34"))
ResNet50 = _factory("ResNet50", "resnet", resnet_plan, _RESNET.format("ResNet-50 (bottleneck blocks)"))

_FAMILIES = ((VGG11, VGG13, VGG16, VGG19, VGG19First8), (ResNet18, ResNet34, ResNet50))
NETWORKS = {factory.__name__: factory for family in _FAMILIES for factory in family}


def default_widths(network: str) -> dict[str, int]:
    """Return `{layer name: width}` of a network at its published widths.

    Args:
        network: one of `models.NETWORKS`, e.g. `"VGG19"`.

    Raises:
        ValueError: unknown network.
    """
    if network not in NETWORKS:
        raise ValueError(f"Unknown network. Expected one of {list(NETWORKS)}. Received: {network}")
    return vgg_plan(network) if network.startswith("VGG") else resnet_plan(network)
