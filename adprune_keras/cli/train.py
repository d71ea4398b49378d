"""`adprune-train`: trains a network of the paper's families, prunes it on the way, records the run."""

import math
import platform
import sys
import tempfile
import warnings

import keras
from absl import flags

from adprune_keras import data
from adprune_keras._version import __version__
from adprune_keras.backup.callback import Backup
from adprune_keras.cli import command, options
from adprune_keras.counting.count import cost
from adprune_keras.export import jobs
from adprune_keras.files.atomic import write_text
from adprune_keras.graph.groups import layer_widths
from adprune_keras.live import devices
from adprune_keras.record.directory import (
    backup_path,
    board_path,
    check_directory,
    create_directory,
    is_over,
    save_figure,
    save_maps,
    save_model,
)
from adprune_keras.record.entry import open_entry
from adprune_keras.record.lines import SCHEMA, append_record
from adprune_keras.report import figures
from adprune_keras.report.summary import summary
from adprune_keras.train import recipe
from adprune_keras.train.board import Board
from adprune_keras.train.callbacks import Dense, Maps, Recorder, Seconds

FLAGS = flags.FLAGS
# Flags that a run may go on with changed.
_NOT_OF_THE_RUN = (
    *("run_dir", "overwrite", "resume", "backup", "save_freq", "verbose", "tensorboard", "export"),
    *("data_dir", "download"),
)


def define_flags():
    """Define the flags of `adprune-train`; return them as `{title: list}`."""
    return options.of_train()


def train():
    """Set up what the flags describe, train it, and write the run directory.

    Of several processes each trains its share of every batch, and only the chief writes.
    """
    _check_finite()
    scope, replicas = devices.distribute(FLAGS.distribution)
    many, process = devices.processes()
    if process == 0:
        check_directory(FLAGS.run_dir, FLAGS.overwrite, FLAGS.resume)
    over = process == 0 and FLAGS.resume and is_over(FLAGS.run_dir)
    if devices.from_chief(b"over" if over else b"", many, process):
        _say(f"The run in {FLAGS.run_dir} is over: nothing is left to do.")
        return
    keras.utils.set_random_seed(FLAGS.seed)
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    dataset = recipe.load_data(FLAGS, (many, process), replicas)
    with scope:
        model = recipe.build(FLAGS, dataset.input_shape, dataset.classes)
        model.compile(
            recipe.optimizer(FLAGS),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=devices.jit_compile(FLAGS.jit_compile),
        )
    verbose = FLAGS.verbose if process == 0 else 0
    backups = backup_path(FLAGS.run_dir) if FLAGS.backup else None
    prune = recipe.pruner(FLAGS, backups, verbose=min(verbose, 1))
    if prune:
        prune.rule.check(layer_widths(model, FLAGS.shortcuts))
    board = None
    if FLAGS.tensorboard and process == 0:  # before anything is written: it may not be installed
        board = Board(board_path(FLAGS.run_dir))
    backup = _open_backup(prune, dataset, min(verbose, 1))
    try:
        directory = None
        if process == 0:
            directory = create_directory(FLAGS.run_dir, FLAGS.overwrite, FLAGS.resume)
        with data.reading(FLAGS.dataset):
            _fit(model, dataset, prune, backup, board, directory, (many, process))
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


def _fit(model, dataset, prune, backup, board, directory, processes):
    """Train, and write what came of it to `directory`, which only the chief has."""
    many, process = processes
    baseline = cost(model)
    if process == 0:
        write_text(directory / "flags.txt", _flagfile())
        _say(
            f"{FLAGS.network} on {FLAGS.dataset}: {dataset.train_examples} training and "
            f"{dataset.test_examples} test images of {dataset.input_shape}, {dataset.classes} classes; "
            f"{baseline.deployed.macs:,} MACs and {baseline.deployed.params:,} parameters deployed."
        )
    kept = prune or Dense(open_entry(layer_widths(model), 0, 0, baseline, baseline), backup)

    def rate(epoch, _):
        start, length = 0, FLAGS.epochs
        if prune:
            start, length = prune.record[-1]["start"], prune.planned_epochs
        return recipe.learning_rate_at(FLAGS.lr_schedule, FLAGS.learning_rate, epoch - start, length)

    seconds = Seconds()
    callbacks = [kept, keras.callbacks.LearningRateScheduler(rate), seconds]
    if backup and not prune:  # ADPrune holds its own
        callbacks.insert(0, backup)
    if process == 0:
        callbacks.append(Recorder(directory, _header(dataset), lambda: kept.record))
    if board:
        board.prune = kept
        callbacks.append(board)
    if many == 1:  # a net that several processes hold does not run on an image of one
        maps = Maps(lambda: kept.record[-1], dataset.sample)
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
            verbose=FLAGS.verbose if process == 0 else 0,
        )
        if kept.record[-1]["outcome"] == "failed":
            sys.exit(command.one_line(f"adprune-train: Training {kept.record[-1]['reason']}"))
        with tempfile.TemporaryDirectory() as nowhere:  # saving gathers the weights from all processes
            save_model(directory if process == 0 else nowhere, model)
    if process != 0:
        return
    nets = kept.record
    last = {name: values[-1] for name, values in history.history.items()}
    result = {"kind": "result", "fit_seconds": seconds.total, "epochs": len(history.epoch), **last}
    append_record(directory, result)
    table = summary(nets)
    write_text(directory / "summary.md", table)
    if many == 1:
        save_maps(directory, maps.nets)
    save_figure(directory, "density.png", figures.figure_2(nets))
    epochs = f"{len(history.epoch)} epoch{'s' * (len(history.epoch) != 1)}"
    if len(history.epoch) < FLAGS.epochs:
        epochs += f" of at most {FLAGS.epochs}, as the final net has had its own"
    _say(f"\n{table}\nTrained {epochs} in {seconds.total:.0f} s. The run is in {directory}.")
    if FLAGS.export:
        jobs.export_run(directory, FLAGS.export, verbose=FLAGS.verbose)


def _open_backup(prune, dataset, verbose):
    """Open the run's backups, and refuse to go on with other flags or data; `None` with --nobackup."""
    if not FLAGS.backup:
        if FLAGS.resume:
            raise ValueError("--resume needs backups. Received: --resume and --nobackup")
        return None
    if prune:
        backup = prune.backup
    else:
        backup = Backup(backup_path(FLAGS.run_dir), FLAGS.save_freq, verbose=verbose)
    backup.open(afresh=FLAGS.overwrite)
    own = [name for name in _own_flags() if name not in _NOT_OF_THE_RUN]
    backup.check("flags", {f"--{name}": FLAGS[name].value for name in own})
    backup.check("data", dataset.facts())
    return backup


def _header(dataset):
    """The first line of a record: how to repeat the run, and what it trained on."""
    return {
        "kind": "run",
        "schema": SCHEMA,
        "versions": {
            "adprune_keras": __version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "flags": {name: FLAGS[name].value for name in _own_flags()},
        "data": dataset.facts(),
    }


def _check_finite():
    for name in _own_flags():
        value = FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name} must be a finite number. Received: {value}")


def _own_flags():
    own = [flag.name for flag in FLAGS.get_key_flags_for_module(options)]
    return [name for name in own if name not in options.NO_SETTINGS]


def _flagfile():
    own = [FLAGS[name] for name in _own_flags() if name not in ("overwrite", "resume")]
    lines = [flag.serialize() for flag in own if flag.value is not None]
    return "\n".join(line for line in lines if line) + "\n"


def _say(text):
    if FLAGS.verbose:
        print(text)


def main():
    """Entry point of `adprune-train`."""
    groups = define_flags()
    command.run("adprune-train", train, groups)


if __name__ == "__main__":
    main()
