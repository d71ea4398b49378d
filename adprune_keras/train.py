"""`adprune-train`: trains a network of the paper's families, prunes it on the way, records the run."""

import itertools
import math
import platform
import sys
import tempfile
import time
import warnings

import keras
from absl import flags

from adprune_keras import command, data, devices, limits, models, plots, run, tables
from adprune_keras._version import __version__
from adprune_keras.accounting import cost
from adprune_keras.backup import TERMINATED, Backup
from adprune_keras.callback import ADPrune, end_if_failed, open_entry
from adprune_keras.density import activation_maps
from adprune_keras.groups import SHORTCUTS, layer_widths
from adprune_keras.rebuild import WEIGHTS
from adprune_keras.recorder import Recorder
from adprune_keras.widths import WidthRule

FLAGS = flags.FLAGS

OPTIMIZERS = ("sgd", "adam", "adamw")
LR_SCHEDULES = ("cosine", "step", "constant")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_WIDEST = 1000  # times the published widths
# Flags that a run may go on with changed.
_NOT_OF_THE_RUN = (
    *("run_dir", "overwrite", "resume", "backup", "save_freq", "progress", "export"),
    *("data_dir", "download"),
)


def define_flags():
    """Define the flags of `adprune-train`."""
    flags.DEFINE_string("run_dir", None, "Directory that the run is written to.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace the run that run_dir already holds.")
    flags.DEFINE_bool(
        "resume",
        False,
        "Go on with the run that run_dir holds, from where it was saved; where there is none, begin it. "
        "Flags must be as they were.",
    )
    flags.DEFINE_bool(
        "backup",
        True,
        "Save the state of the run after every epoch, in run_dir/backup, until the run is over. After "
        f"SIGTERM it is saved too, and the exit code is {TERMINATED}.",
    )
    flags.DEFINE_integer("save_freq", None, "Save the state also every so many steps.", 1)

    flags.DEFINE_string(
        "dataset",
        "digits",
        "'digits' (bundled), an .npz file with x_train y_train x_test y_test, a directory with one "
        "folder per class, or a name of TensorFlow Datasets such as cifar10.",
    )
    flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its prepared data.")
    flags.DEFINE_bool("download", False, "Let TensorFlow Datasets fetch what is not there.")
    flags.DEFINE_integer("image_size", None, "Resize images to so many pixels square.", 8)
    flags.DEFINE_integer("train_examples", None, "Use the first so many training images.", 1)
    flags.DEFINE_integer("test_examples", None, "Use the first so many test images.", 1)
    flags.DEFINE_enum(
        "augment",
        "auto",
        data.AUGMENTATIONS,
        "Augmentation of training images, each on its own; auto: crop and flip for colour images of "
        "24 pixels or more.",
    )

    flags.DEFINE_enum("network", "VGG19", list(models.NETWORKS), "Network to start from.")
    flags.DEFINE_list(
        "widths", None, "Widths of net0, in the order of the paper's Table I; default: published."
    )
    flags.DEFINE_float("width_scale", 1.0, "Multiply the widths of net0, e.g. 0.25 for a quarter.", 0.0)

    flags.DEFINE_integer("epochs", 100, "Epochs over all nets: the ceiling.", 1)
    flags.DEFINE_integer("batch_size", 128, "Images a step.", 1)
    flags.DEFINE_enum("optimizer", "sgd", OPTIMIZERS, "Optimizer.")
    flags.DEFINE_float("learning_rate", 0.1, "Learning rate that each net starts from.", 0.0)
    flags.DEFINE_float("momentum", 0.9, "Momentum of sgd.", 0.0, 1.0)
    flags.DEFINE_float(
        "weight_decay",
        5e-4,
        "Decoupled weight decay, as Keras applies it: each step takes off learning_rate x this.",
        0.0,
    )
    flags.DEFINE_enum(
        "lr_schedule",
        "cosine",
        LR_SCHEDULES,
        "How the learning rate decays from the start of a net to the end of its training; step: "
        "divided by ten after one half and three quarters. Each net starts it afresh.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of weights, data order and augmentation.", 0, 2**32 - 1)
    flags.DEFINE_enum(
        "jit_compile",
        "auto",
        ("auto", "true", "false"),
        "XLA; auto: off on TensorFlow without a GPU, where it is several times slower, else Keras' "
        "own choice.",
    )
    flags.DEFINE_enum(
        "dtype_policy",
        "float32",
        DTYPE_POLICIES,
        "Keras' dtype policy; the mixed ones compute in half precision, which pays on GPUs.",
    )
    flags.DEFINE_enum(
        "distribution",
        "none",
        devices.DISTRIBUTIONS,
        "mirrored: tf.distribute.MirroredStrategy over this machine's devices (TensorFlow); "
        "data_parallel: keras.distribution.DataParallel over all devices of all processes (JAX; "
        "KERAS_DISTRIBUTION_* in the environment say which processes). batch_size is that of all.",
    )

    flags.DEFINE_bool("prune", True, "Prune while training; --noprune trains the dense network.")
    flags.DEFINE_float(
        "min_delta", 1e-3, "Rho: AE is saturated when it changes by less than this in an epoch."
    )
    flags.DEFINE_integer("patience", 2, "Rho: consecutive epochs that must change by less.")
    flags.DEFINE_integer("min_epochs", 10, "Epochs a net trains before rho is looked at.")
    flags.DEFINE_list("prune_at", None, "Prune after these epochs, instead of by rho and delta.")
    flags.DEFINE_integer("max_prunes", None, "Prunes after which the net is final.")
    flags.DEFINE_integer(
        "final_epochs", None, "Epochs of the final net; default: to the end, half of all at least."
    )
    flags.DEFINE_bool(
        "rollback", True, "Where AE rises, go back to the net before; else keep the current one."
    )
    flags.DEFINE_enum(
        "weights", "inherit", WEIGHTS, "After a prune: those of the channels that stay, or new ones."
    )
    flags.DEFINE_enum(
        "shortcuts",
        "project",
        SHORTCUTS,
        "project: the ends of a shortcut have widths of their own, joined by a 1x1 projection; couple: "
        "one width for all that an Add ties together.",
    )
    flags.DEFINE_float(
        "target_ops_reduction", None, "OPS reduction (deployed count) at which pruning ends."
    )
    flags.DEFINE_integer("min_width", WidthRule.min_width, "Channels a layer keeps at the least.")
    flags.DEFINE_integer("round_to", WidthRule.round_to, "New widths are multiples of this.")
    flags.DEFINE_float(
        "max_shrink", WidthRule.max_shrink, "Largest share of a layer's channels that one prune takes."
    )
    flags.DEFINE_multi_string("include", None, "Prune these layers only: name or regular expression.")
    flags.DEFINE_multi_string("exclude", None, "Never prune these layers: name or regular expression.")

    flags.DEFINE_list("export", [], "Formats to export the final net to: onnx, tflite.")
    flags.DEFINE_integer("progress", 2, "Keras' verbose: 0 silent, 1 progress bar, 2 a line an epoch.")


class _Seconds(keras.callbacks.Callback):
    """Wall-clock seconds of the whole `fit`, of all processes that it went on in."""

    def on_train_begin(self, logs=None):
        self._before, self._begin = 0.0, time.perf_counter()

    def on_train_end(self, logs=None):
        self.total = self.get_state()

    def get_state(self):
        return self._before + time.perf_counter() - self._begin

    def set_state(self, state):
        self._before = state


class _Dense(keras.callbacks.Callback):
    """Keeps the record of a run that does not prune, and ends it where it fails, as `ADPrune` does."""

    def __init__(self, entry, backup=None):
        super().__init__()
        self.record = [entry]
        self.backup = backup

    def get_state(self):
        return self.record

    def set_state(self, state):
        self.record = state

    def on_epoch_end(self, epoch, logs=None):
        run.add_epoch(self.record[-1], logs)
        if end_if_failed(self.model, self.record[-1], logs, epoch + 1) and self.backup:
            self.backup.abandon()

    def on_train_end(self, logs=None):
        if self.record[-1]["outcome"] != "failed":
            self.record[-1] |= {"outcome": "final", "reason": "dense: --noprune"}


class _Maps(keras.callbacks.Callback):
    """Keeps what the ReLUs of each net put out for one image, from the net's last epoch (Fig. 5)."""

    def __init__(self, current, image):
        super().__init__()
        self.current, self.image, self.nets = current, image, {}

    def on_epoch_end(self, epoch, logs=None):
        if self.current()["outcome"] != "training":
            self._keep()

    def on_train_end(self, logs=None):
        self._keep()

    def get_state(self):
        return self.nets

    def set_state(self, state):
        self.nets = state

    def _keep(self):
        net, maps = f"net{self.current()['net']}", activation_maps(self.model, self.image)
        self.nets.pop(net, None)  # a net that was gone back to comes last
        self.nets[net] = {"image": self.image.mean(axis=-1)[0]} | {k: v[0] for k, v in maps.items()}


def learning_rate_at(schedule, base, epoch, length):
    """Learning rate of an epoch of a net's training.

    Args:
        schedule: one of `LR_SCHEDULES`.
        base: float, the rate that a net starts from.
        epoch: int, epochs that this net has trained.
        length: int, epochs that it will train.
    """
    if schedule == "constant":
        return base
    if schedule == "step":
        return base * 0.1 ** ((epoch >= length / 2) + (epoch >= length * 3 / 4))
    return float(keras.optimizers.schedules.CosineDecay(base, length)(epoch))


def train():
    """Set up what the flags describe, train it, and write the run directory.

    Of several processes each trains its share of every batch, and only the chief writes.
    """
    _check_finite()
    scope, replicas = devices.distribute(FLAGS.distribution)
    many, process = devices.processes()
    if process == 0:
        run.check(FLAGS.run_dir, FLAGS.overwrite, FLAGS.resume)
    over = process == 0 and FLAGS.resume and run.is_over(FLAGS.run_dir)
    if devices.from_chief(b"over" if over else b"", many, process):
        print(f"The run in {FLAGS.run_dir} is over: nothing is left to do.")
        return
    keras.utils.set_random_seed(FLAGS.seed)
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    dataset = load_data(FLAGS, (many, process), replicas)
    with scope:
        model = build(FLAGS, dataset)
        model.compile(
            _optimizer(),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=devices.jit_compile(FLAGS.jit_compile),
        )
    prune = _callback(verbose=int(FLAGS.progress != 0 and process == 0))
    if prune:
        prune.rule.check(layer_widths(model, FLAGS.shortcuts))
    backup = _open_backup(prune, dataset, verbose=int(process == 0))
    try:
        directory = None
        if process == 0:
            directory = run.create(FLAGS.run_dir, FLAGS.overwrite or FLAGS.resume)
        _fit(model, dataset, prune, backup, directory, (many, process))
        if backup:
            backup.close(remove=True)
    except BrokenPipeError:  # whoever read what this prints has gone
        raise
    except OSError as e:
        more = " Once that is mended, --resume goes on from what was saved." if backup else ""
        raise OSError(f"{str(e).rstrip('.')}.{more}") from e
    finally:
        if backup:
            backup.close()


def _fit(model, dataset, prune, backup, directory, processes):
    """Train, and write what came of it to `directory`, which only the chief has."""
    many, process = processes
    baseline = cost(model)
    if process == 0:
        run.write_text(directory / "flags.txt", _flagfile())
        print(
            f"{FLAGS.network} on {FLAGS.dataset}: {dataset.train_examples} training and "
            f"{dataset.test_examples} test images of {dataset.input_shape}, {dataset.classes} classes; "
            f"{baseline.deployed.macs:,} MACs and {baseline.deployed.params:,} parameters deployed."
        )
    kept = prune or _Dense(open_entry(layer_widths(model), 0, 0, baseline, baseline), backup)

    def rate(epoch, _):
        start, length = 0, FLAGS.epochs
        if prune:
            start, length = prune.record[-1]["start"], prune.planned_epochs
        return learning_rate_at(FLAGS.lr_schedule, FLAGS.learning_rate, epoch - start, length)

    seconds = _Seconds()
    callbacks = [kept, keras.callbacks.LearningRateScheduler(rate), seconds]
    if backup and not prune:  # ADPrune holds its own
        callbacks.insert(0, backup)
    if process == 0:
        callbacks.append(Recorder(directory, _header(dataset), lambda: kept.record))
    if many == 1:  # a net that several processes hold does not run on an image of one
        image = next(iter(dataset.test))[0][:1].numpy()
        maps = _Maps(lambda: kept.record[-1], image)
        callbacks.append(maps)
    with devices.together(many, process), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training failed")  # said below, as the command's last word
        history = model.fit(
            dataset.epochs(backup.epoch if backup else 0),
            steps_per_epoch=dataset.steps,
            epochs=FLAGS.epochs,
            validation_data=dataset.test,
            callbacks=callbacks,
            shuffle=False,  # the data set shuffles itself
            verbose=FLAGS.progress if process == 0 else 0,
        )
        if kept.record[-1]["outcome"] == "failed":
            sys.exit(command.one_line(f"adprune-train: Training {kept.record[-1]['reason']}"))
        with tempfile.TemporaryDirectory() as nowhere:  # saving gathers the weights from all processes
            run.save_model(directory if process == 0 else nowhere, model)
    if process != 0:
        return
    nets = kept.record
    last = {name: values[-1] for name, values in history.history.items()}
    result = {"kind": "result", "fit_seconds": seconds.total, "epochs": len(history.epoch), **last}
    run.append_record(directory, result)
    table = tables.summary(nets)
    run.write_text(directory / "summary.md", table)
    if many == 1:
        run.save_maps(directory, maps.nets)
    run.save_figure(directory, "density.png", plots.figure_2(nets))
    print(f"\n{table}\nTrained in {seconds.total:.0f} s. The run is in {directory}.")
    if FLAGS.export:
        from adprune_keras.export.main import export_run

        export_run(directory, FLAGS.export)


def _open_backup(prune, dataset, verbose):
    """Open the run's backups, and refuse to go on with other flags or data; `None` with --nobackup."""
    if not FLAGS.backup:
        if FLAGS.resume:
            raise ValueError("--resume needs backups. Received: --resume and --nobackup")
        return None
    if prune:
        backup = prune.backup
    else:
        backup = Backup(run.backup_path(FLAGS.run_dir), FLAGS.save_freq, verbose=verbose)
    backup.open(afresh=FLAGS.overwrite)
    own = [name for name in _own_flags() if name not in _NOT_OF_THE_RUN]
    backup.check("flags", {f"--{name}": FLAGS[name].value for name in own})
    backup.check("data", dataset.facts())
    return backup


def _header(dataset):
    """The first line of a record: how to repeat the run, and what it trained on."""
    return {
        "kind": "run",
        "schema": run.SCHEMA,
        "versions": {
            "adprune_keras": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "flags": {name: FLAGS[name].value for name in _own_flags()},
        "data": dataset.facts(),
    }


def load_data(values, processes=(1, 0), replicas=1):
    """Load the data set that flags, or an object with a run's flags as attributes, describe.

    `processes` and `replicas` as in `data.load`.
    """
    return data.load(
        values.dataset,
        batch_size=values.batch_size,
        augment=values.augment,
        image_size=values.image_size,
        train_examples=values.train_examples,
        test_examples=values.test_examples,
        data_dir=values.data_dir,
        download=values.download,
        seed=values.seed,
        processes=processes,
        replicas=replicas,
    )


def build(values, dataset):
    """Build net0 as flags, or an object with a run's flags as attributes, describe; not compiled."""
    widths = check_widths(values)
    return models.NETWORKS[values.network](
        input_shape=dataset.input_shape, classes=dataset.classes, widths=widths
    )


def check_widths(values):
    """Return the widths of net0 that flags describe, where this machine can hold such a net.

    Raises:
        ValueError: an unknown network, widths that do not fit it, or a net that memory does not hold.
    """
    widths = _widths(values)
    kernel = 1 if values.network == "ResNet50" else 9  # at the least
    least = kernel * sum(abs(a * b) for a, b in itertools.pairwise(widths))
    try:  # weights, gradients and a slot of the optimizer
        limits.check_size("training net0", 3 * 4 * least, limits.memory())
    except ValueError as e:
        raise ValueError(f"The network is too wide. Received: widths={widths}: {e}") from e
    return widths


def _widths(values):
    defaults = models.default_widths(values.network)
    scale = values.width_scale
    if values.widths is None:
        if not 0 < scale <= _WIDEST:
            raise ValueError(f"--width_scale must be above 0, at most {_WIDEST}. Received: {scale}")
        return [max(1, round(w * scale)) for w in defaults.values()]
    if scale != 1.0:
        raise ValueError("--widths and --width_scale exclude each other. Received: both")
    return _ints("widths", values.widths)


def _callback(verbose):
    if not FLAGS.prune:
        return None
    return ADPrune(
        min_delta=FLAGS.min_delta,
        patience=FLAGS.patience,
        min_epochs=FLAGS.min_epochs,
        prune_at=None if FLAGS.prune_at is None else _ints("prune_at", FLAGS.prune_at),
        max_prunes=FLAGS.max_prunes,
        final_epochs=FLAGS.final_epochs,
        rollback=FLAGS.rollback,
        weights=FLAGS.weights,
        shortcuts=FLAGS.shortcuts,
        rule=WidthRule(
            min_width=FLAGS.min_width,
            round_to=FLAGS.round_to,
            max_shrink=FLAGS.max_shrink,
            include=FLAGS.include,
            exclude=FLAGS.exclude,
        ),
        target_ops_reduction=FLAGS.target_ops_reduction,
        backup_dir=run.backup_path(FLAGS.run_dir) if FLAGS.backup else None,
        save_freq=FLAGS.save_freq if FLAGS.backup else None,
        seed=FLAGS.seed,
        verbose=verbose,
    )


def _optimizer():
    settings = {"learning_rate": FLAGS.learning_rate, "weight_decay": FLAGS.weight_decay or None}
    if FLAGS.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=FLAGS.momentum, **settings)
    kind = keras.optimizers.Adam if FLAGS.optimizer == "adam" else keras.optimizers.AdamW
    return kind(**settings)


def _ints(name, values):
    try:
        return [int(v) for v in values]
    except ValueError as e:
        raise ValueError(f"--{name} takes ints, separated by commas. Received: {values}") from e


def _check_finite():
    for name in _own_flags():
        value = FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name} must be a finite number. Received: {value}")


def _own_flags():
    return [flag.name for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])]


def _flagfile():
    own = [FLAGS[name] for name in _own_flags() if name not in ("overwrite", "resume")]
    lines = [flag.serialize() for flag in own if flag.value is not None]
    return "\n".join(line for line in lines if line) + "\n"


def main():
    """Entry point of `adprune-train`."""
    define_flags()
    command.run("adprune-train", train)


if __name__ == "__main__":
    main()
