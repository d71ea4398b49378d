"""Fine-tunes a network of keras.applications on your images, and prunes it on the way.

    python examples/fine_tune.py --dataset=photos --output=small.keras
    python examples/fine_tune.py --dataset=cifar10 --download --network=ResNet50 --image_size=64

First the new top is trained with the base frozen. Then everything is, at a low learning rate, and after
each of the first epochs a small part of the channels goes: those that stay keep what they learnt.
Without a network connection `--weights=none` starts from new weights.
"""

import sys

import keras
import tensorflow as tf
from absl import app, flags

from adprune_keras import ADPrune, WidthRule, data
from adprune_keras.files.atomic import atomic
from adprune_keras.report.summary import summary

FLAGS = flags.FLAGS
NETWORKS = {
    "MobileNetV2": keras.applications.mobilenet_v2,
    "ResNet50": keras.applications.resnet,
    "ResNet50V2": keras.applications.resnet_v2,
    "VGG16": keras.applications.vgg16,
    "DenseNet121": keras.applications.densenet,
}

flags.DEFINE_string(
    "dataset",
    None,
    "An .npz file, a directory with a folder per class, or a set of TensorFlow Datasets: docs/data.md.",
    required=True,
)
flags.DEFINE_bool("download", False, "Let TensorFlow Datasets fetch what is not there.")
flags.DEFINE_integer("train_examples", None, "Use the first so many training images.", 1)
flags.DEFINE_integer("test_examples", None, "Use the first so many test images.", 1)
flags.DEFINE_integer("image_size", 96, "Resize images to so many pixels square.", 32)
flags.DEFINE_integer("batch_size", 32, "Images a step.", 1)
flags.DEFINE_enum("network", "MobileNetV2", list(NETWORKS), "Network to start from.")
flags.DEFINE_enum("weights", "imagenet", ["imagenet", "none"], "What it has learnt; none: nothing yet.")
flags.DEFINE_integer("top_epochs", 2, "Epochs of the new top alone.", 0)
flags.DEFINE_integer("epochs", 8, "Epochs of the whole network.", 1)
flags.DEFINE_list("prune_at", ["1", "2", "3"], "Prune after these of them.")
flags.DEFINE_float("max_shrink", 0.2, "Largest share of a layer's channels that one prune takes.")
flags.DEFINE_integer("round_to", 8, "New widths are multiples of this.", 1)
flags.DEFINE_float("learning_rate", 1e-4, "Of the whole network; the top learns ten times as fast.")
flags.DEFINE_integer("seed", 0, "Seed of weights and data.")
flags.DEFINE_string("output", "small.keras", "Where the pruned network goes.")


def load():
    """Return the data set, and its training and test batches as the network likes them."""
    given = data.load(
        FLAGS.dataset,
        batch_size=FLAGS.batch_size,
        image_size=FLAGS.image_size,
        train_examples=FLAGS.train_examples,
        test_examples=FLAGS.test_examples,
        download=FLAGS.download,
        seed=FLAGS.seed,
    )
    prepare = NETWORKS[FLAGS.network].preprocess_input

    def as_learnt(x, y):
        pixels = x * given.std + given.mean  # the network has a scaling of its own
        return prepare(tf.image.grayscale_to_rgb(pixels) if x.shape[-1] == 1 else pixels), y

    return given, given.train.map(as_learnt), given.test.map(as_learnt)


def build(classes):
    """Return the network with a new top, and its base."""
    shape = (FLAGS.image_size, FLAGS.image_size, 3)
    weights = None if FLAGS.weights == "none" else FLAGS.weights
    make = getattr(keras.applications, FLAGS.network)
    try:
        base = make(include_top=False, weights=weights, input_shape=shape)
    except Exception as e:  # what Keras raises where a download fails
        sys.exit(f"{e}. --weights=none does without what was learnt elsewhere.")
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # statistics that follow within a short training what pruning changes
    inputs = keras.Input(shape, name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base(inputs))
    outputs = keras.layers.Dense(classes, activation="softmax", name="classes")(x)
    return keras.Model(inputs, outputs, name=FLAGS.network.lower()), base


def train(model, learning_rate, **arguments):
    """Compile and fit."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )
    model.fit(**arguments, verbose=2)


def main(argv):
    """Train the top, then everything while it is pruned; print the reductions and save the network."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}. All settings are flags.")
    keras.utils.set_random_seed(FLAGS.seed)
    given, training, test = load()
    model, base = build(given.classes)
    if FLAGS.top_epochs:
        base.trainable = False
        train(model, 10 * FLAGS.learning_rate, x=training, epochs=FLAGS.top_epochs, validation_data=test)
        base.trainable = True
    prune = ADPrune(
        schedule=[int(epoch) for epoch in FLAGS.prune_at],
        rule=WidthRule(max_shrink=FLAGS.max_shrink, round_to=FLAGS.round_to),
        seed=FLAGS.seed,
    )
    train(
        model,
        FLAGS.learning_rate,
        x=training,
        epochs=FLAGS.epochs,
        validation_data=test,
        callbacks=[prune],
    )
    print(f"\n{summary(prune.record)}")
    with atomic(FLAGS.output) as file:
        model.save(file)
    print(f"The pruned network is in {FLAGS.output}.")


if __name__ == "__main__":
    app.run(main)
