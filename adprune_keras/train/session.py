"""One run: data, net0, `fit` with its callbacks, and what is written of it."""

import platform
import tempfile
import warnings

import keras

from adprune_keras import data
from adprune_keras._version import __version__
from adprune_keras.backup.callback import Backup
from adprune_keras.counting.count import cost
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

# Flags that a run may go on with changed.
_NOT_OF_THE_RUN = (
    *("run_dir", "overwrite", "resume", "backup", "save_freq", "verbose", "tensorboard", "export"),
    *("data_dir", "download"),
)


class TrainingFailed(ValueError):
    """An epoch was not finite: a loss, a density or a weight."""


def train(run, flags, flagfile):
    """Set up what settings describe, train it, and write the run directory.

    Of several processes each trains its share of every batch, and only the chief writes.

    Args:
        run: `settings.Run`.
        flags: `{name: value}`, the same as flags: a record holds them.
        flagfile: str, the same as the text of a flagfile, for `flags.txt`.

    Returns:
        The run directory, where this process has written one and training was not over before.

    Raises:
        ValueError: settings that do not fit each other, the data or the run that is there.
        TrainingFailed: an epoch was not finite.
        OSError: a file that cannot be read or written.
    """
    output = run.output
    scope, replicas = devices.distribute(run.machine.distribution)
    many, process = devices.processes()
    if process == 0:
        check_directory(output.run_dir, output.overwrite, output.resume)
    over = process == 0 and output.resume and is_over(output.run_dir)
    if devices.from_chief(b"over" if over else b"", many, process):
        _say(run, f"The run in {output.run_dir} is over: nothing is left to do.")
        return None
    keras.utils.set_random_seed(run.training.seed)
    keras.config.set_dtype_policy(run.machine.dtype_policy)
    dataset = recipe.load_data(run.source, run.images, run.training, (many, process), replicas)
    with scope:
        model = recipe.build(run.network, dataset.input_shape, dataset.classes)
        model.compile(
            recipe.optimizer(run.training),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=devices.jit_compile(run.machine.jit_compile),
        )
    verbose = output.verbose if process == 0 else 0
    backups = backup_path(output.run_dir) if output.backup else None
    prune = recipe.pruner(run, backups, verbose=min(verbose, 1))
    if prune:
        run.rule.check(layer_widths(model, run.pruning.shortcuts))
    board = None
    if output.tensorboard and process == 0:  # before anything is written: it may not be installed
        board = Board(board_path(output.run_dir))
    backup = _open_backup(output, prune, min(verbose, 1))
    if backup:
        backup.open(afresh=output.overwrite)
        settled = {f"--{name}": value for name, value in flags.items() if name not in _NOT_OF_THE_RUN}
        backup.check("flags", settled)
        backup.check("data", dataset.facts())
    try:
        directory = None
        if process == 0:
            directory = create_directory(output.run_dir, output.overwrite, output.resume)
            write_text(directory / "flags.txt", flagfile)
        with data.reading(run.source.dataset):
            _fit(run, flags, model, dataset, prune, backup, board, directory, (many, process))
        if backup:
            backup.close(remove=True)
        return directory
    except BrokenPipeError:  # whoever read what this prints has gone
        raise
    except OSError as e:
        more = " Once that is mended, --resume goes on from what was saved." if backup else ""
        raise OSError(f"{str(e).rstrip('.')}.{more}") from e
    finally:
        if backup:
            backup.close()


def _fit(run, flags, model, dataset, prune, backup, board, directory, processes):
    """Train, and write what came of it to `directory`, which only the chief has."""
    (many, process), training = processes, run.training
    baseline = cost(model)
    if process == 0:
        _say(
            run,
            f"{run.network.network} on {run.source.dataset}: {dataset.train_examples} training and "
            f"{dataset.test_examples} test images of {dataset.input_shape}, {dataset.classes} classes; "
            f"{baseline.deployed.macs:,} MACs and {baseline.deployed.params:,} parameters deployed.",
        )
    kept = prune or Dense(open_entry(layer_widths(model), 0, 0, baseline, baseline), backup)

    def rate(epoch, _):
        start, length = 0, training.epochs
        if prune:
            start, length = prune.record[-1]["start"], prune.planned_epochs
        return recipe.learning_rate_at(
            training.lr_schedule, training.learning_rate, epoch - start, length
        )

    seconds = Seconds()
    callbacks = [kept, keras.callbacks.LearningRateScheduler(rate), seconds]
    if backup and not prune:  # ADPrune holds its own
        callbacks.insert(0, backup)
    if process == 0:
        callbacks.append(Recorder(directory, _header(flags, dataset), lambda: kept.record))
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
            epochs=training.epochs,
            validation_data=dataset.test,
            callbacks=callbacks,
            shuffle=False,  # the data set shuffles itself
            verbose=run.output.verbose if process == 0 else 0,
        )
        if kept.record[-1]["outcome"] == "failed":
            raise TrainingFailed(f"Training {kept.record[-1]['reason']}")
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
    if len(history.epoch) < training.epochs:
        epochs += f" of at most {training.epochs}, as the final net has had its own"
    _say(run, f"\n{table}\nTrained {epochs} in {seconds.total:.0f} s. The run is in {directory}.")


def _open_backup(output, prune, verbose):
    """The run's backups, `ADPrune`'s own where there is one; `None` with --nobackup."""
    if not output.backup or prune:
        return prune.backup if prune else None
    return Backup(backup_path(output.run_dir), output.save_freq, verbose=verbose)


def _header(flags, dataset):
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
        "flags": flags,
        "data": dataset.facts(),
    }


def _say(run, text):
    if run.output.verbose:
        print(text)
