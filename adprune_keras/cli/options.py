"""The flags of `adprune-train` in groups by purpose; `adprune-plan` shares some of them.

Defined here, read by the commands: a help text says what a flag does and why its default is what it is.
"""

from absl import flags

from adprune_keras import data, models
from adprune_keras.backup.callback import TERMINATED
from adprune_keras.cli import command
from adprune_keras.cli.listing import what_there_is
from adprune_keras.graph.groups import SHORTCUTS
from adprune_keras.graph.rebuild import WEIGHTS
from adprune_keras.live import devices
from adprune_keras.prune.widths import WidthRule
from adprune_keras.train import recipe

# Flags of this module that say nothing about a run.
NO_SETTINGS = ("list", "progress")


def of_train():
    """Define the flags of `adprune-train`; return them as `{title: list}`."""
    flags.DEFINE_flag(command.Show("list", "Show data sets, networks and flagfiles.", what_there_is))
    groups = {
        "Run": [flags.FLAGS["list"], *_run()],
        "Data": [*dataset("digits"), *_images()],
        "Network": network("VGG19"),
        "Training": _training(),
        "When to prune": _schedule(),
        "What to prune": pruning(),
        "Machine": _machine(),
    }
    flags.DEFINE_alias("progress", "verbose")  # its name in flagfiles of older runs
    return groups


def _choice(name, values, default, about):
    """Define a flag that is one of some words."""
    return flags.DEFINE(
        command.Choice(values), name, default, about, serializer=flags.ArgumentSerializer()
    )


def _run():
    return [
        flags.DEFINE_string("run_dir", None, "Directory that the run is written to.", required=True),
        flags.DEFINE_bool("overwrite", False, "Replace the run that run_dir holds."),
        flags.DEFINE_bool(
            "resume",
            False,
            "Go on with the run that run_dir holds, from where it was saved; where there is none, begin "
            "it. Flags must be as they were.",
        ),
        flags.DEFINE_bool(
            "backup",
            True,
            "Save the state of the run after every epoch, in run_dir/backup, until it is over; after "
            f"SIGTERM too (exit code {TERMINATED}). It takes a fraction of a second.",
        ),
        flags.DEFINE_integer(
            "save_freq", None, "Save also every so many steps; not by default: epochs are short.", 1
        ),
        flags.DEFINE_integer(
            "verbose",
            2,
            "As in Keras: 0 prints nothing, 1 a progress bar, 2 a line an epoch, which reads well in "
            "logs too.",
            0,
            2,
        ),
        flags.DEFINE_bool(
            "tensorboard",
            False,
            "Write run_dir/tensorboard: logs, widths, AE of each layer, figures. Needs the extra "
            "tensorboard.",
        ),
        flags.DEFINE_list(
            "export", [], "Formats to export the final net to, as in adprune-export: onnx,tflite or all."
        ),
    ]


def dataset(default):
    """Define where images come from."""
    return [
        flags.DEFINE_string(
            "dataset",
            default,
            "'digits' (bundled with scikit-learn, so that nothing need be fetched), an .npz file with "
            "x_train y_train x_test y_test, a directory with one folder per class, or a name of "
            "TensorFlow Datasets such as cifar10.",
        ),
        flags.DEFINE_string(
            "data_dir", None, "Where TensorFlow Datasets keeps its data; default: ~/tensorflow_datasets."
        ),
        flags.DEFINE_bool(
            "download", False, "Let TensorFlow Datasets fetch what is not there; never unasked."
        ),
        flags.DEFINE_integer(
            "image_size",
            None,
            "Resize images to so many pixels square; needed where they differ in size. Default: as "
            "they are.",
            8,
        ),
    ]


def _images():
    return [
        flags.DEFINE_integer(
            "train_examples", None, "Use the first so many training images. Default: all.", 1
        ),
        flags.DEFINE_integer(
            "test_examples", None, "Use the first so many test images. Default: all.", 1
        ),
        _choice(
            "augment",
            data.AUGMENTATIONS,
            "auto",
            "Augmentation of training images, each on its own; auto: crop and flip for colour images of "
            "24 pixels or more, none for others (a mirrored digit is no digit).",
        ),
    ]


def network(default):
    """Define which of the factories' networks is net0."""
    return [
        _choice(
            "network",
            list(models.NETWORKS),
            default,
            "Network to start from; the paper's are VGG19 and ResNet18.",
        ),
        flags.DEFINE_list(
            "widths",
            None,
            "Widths of net0, one for each layer in the order of the paper's Table I. Default: as "
            "published.",
        ),
        flags.DEFINE_float(
            "width_scale",
            1.0,
            "Multiply the published widths, e.g. 0.25 for a quarter; 1: as published.",
            0.0,
        ),
    ]


def _training():
    return [
        flags.DEFINE_integer(
            "epochs", 100, "Epochs over all nets, the ceiling; the paper's first net takes 100.", 1
        ),
        flags.DEFINE_integer("batch_size", 128, "Images a step; the paper's.", 1),
        _choice("optimizer", recipe.OPTIMIZERS, "sgd", "Optimizer; sgd is the paper's."),
        flags.DEFINE_float(
            "learning_rate",
            0.1,
            "Learning rate that each net starts from; usual for sgd with batch normalisation, take "
            "0.001 for adam.",
            0.0,
        ),
        flags.DEFINE_float("momentum", 0.9, "Momentum of sgd; the usual one.", 0.0, 1.0),
        flags.DEFINE_float(
            "weight_decay",
            5e-4,
            "Decoupled weight decay, as Keras applies it: each step takes off learning_rate x this. The "
            "usual one for CIFAR.",
            0.0,
        ),
        _choice(
            "lr_schedule",
            recipe.LR_SCHEDULES,
            "cosine",
            "How the learning rate decays over each net's training; step: divided by ten after one "
            "half and three quarters, as in configs/ for the paper's studies. cosine ends at 0 after "
            "any number of epochs.",
        ),
        flags.DEFINE_integer(
            "seed",
            0,
            "Seed of weights, data order and augmentation; fixed, so that runs repeat.",
            0,
            2**32 - 1,
        ),
    ]


def _schedule():
    return [
        flags.DEFINE_bool("prune", True, "Prune while training; --noprune trains the dense network."),
        flags.DEFINE_float(
            "min_delta",
            1e-3,
            "Rho: AE is saturated when it changes by less than this in an epoch; the paper's.",
        ),
        flags.DEFINE_integer(
            "patience", 2, "Rho: epochs in a row that must change by less; the paper's 'two or more'."
        ),
        flags.DEFINE_integer(
            "min_epochs",
            10,
            "Epochs a net trains before rho is looked at: batch normalisation holds AE still at first.",
        ),
        flags.DEFINE_list(
            "prune_at", None, "Prune after these epochs, e.g. 25,50. Default: when rho and delta say so."
        ),
        flags.DEFINE_integer(
            "max_prunes", None, "Prunes after which the net is final. Default: as many as rho finds."
        ),
        flags.DEFINE_integer(
            "final_epochs",
            None,
            "Epochs of the final net. Default: to the end, and half of all epochs are kept for it.",
        ),
        flags.DEFINE_bool(
            "rollback",
            True,
            "Where AE rises over a pruned net, go back to the one before, as the paper does; else keep "
            "it.",
        ),
        target(),
    ]


def target():
    """Define where pruning ends."""
    return flags.DEFINE_float(
        "target_ops_reduction",
        None,
        "OPS reduction (deployed count) at which pruning ends. Default: none, AE alone decides.",
    )


def pruning():
    """Define what a prune does to which layers."""
    return [
        _choice(
            "weights",
            WEIGHTS,
            "inherit",
            "After a prune: inherit those of the channels that stay, which ends higher in short runs, "
            "or random new ones, the paper's.",
        ),
        _choice(
            "shortcuts",
            SHORTCUTS,
            "project",
            "project, the paper's: each end of a shortcut has a width of its own, and a 1x1 projection "
            "joins them; couple: one width for all that an Add ties together.",
        ),
        flags.DEFINE_integer(
            "min_width",
            WidthRule.min_width,
            "Channels a layer keeps at the least; with one or two, nets no longer train.",
        ),
        flags.DEFINE_integer(
            "round_to",
            WidthRule.round_to,
            "New widths are multiples of this. 1 is the paper's; 8 runs faster on most processors.",
        ),
        flags.DEFINE_float(
            "max_shrink",
            WidthRule.max_shrink,
            "Largest share of a layer's channels that one prune takes; 1: AE alone decides.",
        ),
        flags.DEFINE_multi_string(
            "include",
            None,
            "Prune these layers only: name or regular expression; may be repeated. Default: all.",
        ),
        flags.DEFINE_multi_string(
            "exclude",
            None,
            "Never prune these layers: name or regular expression; may be repeated. Default: none.",
        ),
    ]


def _machine():
    return [
        _choice(
            "jit_compile",
            ("auto", "true", "false"),
            "auto",
            "XLA; auto: off on TensorFlow without a GPU, where it is several times slower, else Keras' "
            "own choice.",
        ),
        _choice(
            "dtype_policy",
            recipe.DTYPE_POLICIES,
            "float32",
            "Keras' dtype policy; the mixed ones compute in half precision, which pays on GPUs only.",
        ),
        _choice(
            "distribution",
            devices.DISTRIBUTIONS,
            "none",
            "mirrored: tf.distribute.MirroredStrategy over this machine's devices (TensorFlow); "
            "data_parallel: keras.distribution.DataParallel over all devices of all processes (JAX; "
            "KERAS_DISTRIBUTION_* in the environment say which processes); none: one device. batch_size "
            "is that of all.",
        ),
    ]
