"""Which rule follows channels through which layer."""

from keras import layers

from adprune_keras.graph.rules.merging import add, multiply, other_merge
from adprune_keras.graph.rules.pointwise import (
    activate,
    batch_norm,
    depthwise,
    global_pooling,
    group_norm,
    layer_norm,
    not_at_zero,
    pass_on,
    prelu,
    reduce,
    relu_like,
    rescale,
    spatial,
)
from adprune_keras.graph.rules.producers import convolution, dense, separable, transposed
from adprune_keras.graph.rules.reshaping import concatenate, permute, repeat_vector, reshape

_RAW_ZERO_TO_ZERO = {
    *("Absolute", "Cast", "Celu", "Elu", "Gelu", "HardShrink", "HardSilu", "HardTanh", "Identity"),
    *("LeakyRelu", "Negative", "Relu", "Relu6", "Selu", "Silu", "SoftShrink", "Softsign", "Sqrt"),
    *("Square", "StopGradient", "Tanh", "TanhShrink"),
}
_RAW_ZERO_TO_OTHER = {"Exp", "HardSigmoid", "LogSigmoid", "Sigmoid", "Softplus"}


def _of(names, rule):
    return {getattr(layers, name): rule for name in names.split()}


RULES = {
    **_of("Conv1D Conv2D Conv3D", convolution),
    **_of("Conv1DTranspose Conv2DTranspose Conv3DTranspose", transposed),
    **_of("SeparableConv1D SeparableConv2D", separable),
    **_of("DepthwiseConv1D DepthwiseConv2D", depthwise),
    **_of("Dense", dense),
    **_of("Activation", activate),
    **_of("ReLU LeakyReLU ELU", relu_like),
    **_of("PReLU", prelu),
    **_of("Dropout GaussianNoise GaussianDropout AlphaDropout Identity ActivityRegularization", pass_on),
    **_of("SpatialDropout1D SpatialDropout2D SpatialDropout3D", pass_on),
    **_of("MaxPooling1D MaxPooling2D MaxPooling3D", spatial),
    **_of("AveragePooling1D AveragePooling2D AveragePooling3D", spatial),
    **_of("AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D", spatial),
    **_of("AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D", spatial),
    **_of("ZeroPadding1D ZeroPadding2D ZeroPadding3D", spatial),
    **_of("Cropping1D Cropping2D Cropping3D", spatial),
    **_of("UpSampling1D UpSampling2D UpSampling3D Resizing", spatial),
    **_of("GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D", global_pooling),
    **_of("GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D", global_pooling),
    **_of("BatchNormalization", batch_norm),
    **_of("LayerNormalization RMSNormalization", layer_norm),
    **_of("GroupNormalization", group_norm),
    **_of("Rescaling", rescale),
    **_of("Flatten Reshape", reshape),
    **_of("Permute", permute),
    **_of("RepeatVector", repeat_vector),
    **_of("Concatenate", concatenate),
    **_of("Add", add),
    **_of("Subtract Average Maximum Minimum", other_merge),
    **_of("Multiply", multiply),
}
RAW_RULES = {
    **dict.fromkeys(_RAW_ZERO_TO_ZERO, relu_like),
    **dict.fromkeys(_RAW_ZERO_TO_OTHER, not_at_zero),
    **dict.fromkeys(("Mean", "Max", "Amax"), reduce),
    "Reshape": reshape,
    "Concatenate": concatenate,
    "Add": add,
    **dict.fromkeys(("Subtract", "Maximum", "Minimum"), other_merge),
    "Multiply": multiply,
}
PRODUCERS = {convolution, transposed, separable, dense}
KNOWN_LAYERS = tuple(sorted(kind.__name__ for kind in RULES))
