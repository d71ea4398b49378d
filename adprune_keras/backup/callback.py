"""The whole state of a `fit`, on disk after every epoch, and back again."""

import enum
import json
import pathlib
import sys
import warnings
from typing import Any

import keras
import numpy as np

from adprune_keras.backup import others, store
from adprune_keras.backup.folder import Folder
from adprune_keras.backup.identity import layers_of, optimizer_of
from adprune_keras.backup.random_state import random_state, set_random_state
from adprune_keras.backup.sigterm import TERMINATED, Sigterm
from adprune_keras.live import devices
from adprune_keras.live.keras_private import scope
from adprune_keras.live.loop import siblings, skip_steps, start_from
from adprune_keras.text import plain


class Phase(enum.Enum):
    """Where a `Backup` is. `close` leads back to the first from everywhere."""

    CLOSED = enum.auto()  # nothing is locked
    OPENED = enum.auto()  # locked and read, for the `fit` that follows
    HELD = enum.auto()  # the same ahead of `fit`: the end of that leaves it so
    BEGUN = enum.auto()  # a `fit` has restored what there was
    RUNNING = enum.auto()  # its first epoch has begun
    ABANDONED = enum.auto()  # an epoch failed: nothing more is saved


class Backup(keras.callbacks.Callback):
    """Saves the state of a `fit` as one unit, and goes on from it where there is one.

    For a network that is not pruned; `ADPrune(backup_dir=...)` holds one of its own. Put it first in
    `callbacks`. The same script goes on where it was: after the last epoch that was saved, or within
    it. What is saved, and how exactly a run repeats itself: docs/faults.md.

    A state is saved when an epoch begins, once all callbacks have seen the end of the one before.
    After SIGTERM it is saved after the step that runs, and the process exits with 143.

    Args:
        directory: str or path, for the backups of one `fit` and a lock; made where it is missing.
        save_freq: int or `None`, save also every so many steps. Defaults to `None`.
        owner: callback that changes the network while it trains. `settings()` must be as they were;
            `set_state(state)` gives the model the structure that it had at `get_state()`, and the
            variables are assigned afterwards; `kept()` is the `swap.Net` kept aside, or `None`.
        verbose: 0 or 1. With 1 (default) a line says what a `fit` goes on from.

    Raises:
        ValueError: an argument out of its range. At the start of training: a directory that another
            process uses, a backup of another run (what differs is named), or one that is damaged.
        BackupError: (an OSError) a state could not be saved; what was saved before is intact.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        save_freq: int | None = None,
        owner: keras.callbacks.Callback | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(directory, str | pathlib.Path) or not str(directory):
            raise ValueError(f"`backup_dir` must be the path of a directory. Received: {directory!r}")
        if save_freq is not None and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"`save_freq` must be an int from 1 on, or None. Received: {save_freq!r}")
        self.directory = pathlib.Path(directory)
        self.save_freq = save_freq
        self.owner = owner
        self.verbose = verbose
        self._settings: dict[str, Any] = {}
        self._folder = Folder(self.directory)
        self._found: dict[str, Any] | None = None
        self._sigterm: Sigterm | None = None
        self._phase = self._afterwards = Phase.CLOSED

    @property
    def epoch(self) -> int:
        """The epoch that training goes on from, once open: 0 where there is nothing to go on from."""
        return 0 if self._found is None else self._found["epoch"]

    def open(self, afresh=False):
        """Lock the directory and read what it holds, ahead of `fit`; then `close` it afterwards.

        Args:
            afresh: bool, remove what it holds instead.

        Raises:
            ValueError: in use by another process, damaged, or not a directory that can be written.
        """
        self._open(afresh)
        self._phase = Phase.HELD

    def check(self, kind, settings):
        """Refuse a backup that was made with other settings; what is saved from now on holds these.

        Args:
            kind: str, what they are settings of.
            settings: dict of plain data; names are named in the message.

        Raises:
            ValueError: one or more differ.
        """
        self._open()
        settings = json.loads(json.dumps(plain(settings), default=str))
        self._settings[kind] = settings
        if self._found is None:
            return
        saved = self._found["settings"].get(kind, {})
        changed = [
            f"{name}={settings.get(name)!r} (it has {saved.get(name)!r})"
            for name in sorted(saved.keys() | settings.keys())
            if saved.get(name) != settings.get(name)
        ]
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            self._refuse(f"{kind}: {', '.join(changed[:5])}{more}")

    def close(self, remove=False):
        """Give the directory back; with `remove` the run is over, and its backups go."""
        if self._sigterm is not None:
            self._sigterm.leave()
        self._folder.close(remove)
        self._phase = Phase.CLOSED

    def abandon(self):
        """Save no more: the epoch that has ended is not one to go on from."""
        self._phase = Phase.ABANDONED

    def on_train_begin(self, logs=None):
        """Restore what there is."""
        self._open()
        if self.owner is not None:
            self.check(type(self.owner).__name__, self.owner.settings())
        self.check("fit", {"epochs": self.params["epochs"], "backend": keras.backend.backend()})
        self.check("model", layers_of(self.model))
        self.check("optimizer", optimizer_of(self.model.optimizer))
        self._skip = 0
        if not self.model.optimizer.built:  # TensorFlow leaves that to the first step
            with scope(self.model):
                self.model.optimizer.build(self.model.trainable_variables)
        if self._found is not None:
            self._restore(self._found)
        self._sigterm = Sigterm(self.model)
        self._afterwards = Phase.HELD if self._phase is Phase.HELD else Phase.CLOSED
        self._phase = Phase.BEGUN

    def on_epoch_begin(self, epoch, logs=None):
        """Save; or, in the first epoch of a `fit` that goes on, restore what other callbacks hold."""
        self._calls = self._saved_at = 0
        self._epoch = epoch
        goes_on = self._phase is Phase.BEGUN and self._found is not None
        self._run()
        if not goes_on:
            self._begin = {"random": random_state(), "callbacks": others.states(self._others)}
            self._save(epoch)
        self._found = None if not self._skip else self._found
        self._exit_if_told()

    def on_train_batch_end(self, batch, logs=None):
        """Save every `save_freq` steps, and when the process is told to end."""
        self._calls += 1
        if self._skip:
            if self._calls == self._skip:
                self._build_metrics()
                self._assign()
                set_random_state(self._found["random"])
                self._skip, self._saved_at, self._found = 0, batch + 1, None
        elif self._sigterm.told or (self.save_freq and batch + 1 - self._saved_at >= self.save_freq):
            self._saved_at = batch + 1
            self._save(self._epoch, logs)
        self._exit_if_told()

    def on_train_end(self, logs=None):
        """Save the end of training: whoever saves the model afterwards may fail to."""
        self._run()
        self._begin = {"random": random_state(), "callbacks": others.states(self._others)}
        self._calls = 0
        self._save(self.params["epochs"], over=True)
        self._found = None
        self._exit_if_told()
        if self._afterwards is Phase.HELD:
            self._sigterm.leave()
            self._phase = Phase.HELD
        else:
            self.close()

    def _open(self, afresh=False):
        if self._phase in (Phase.OPENED, Phase.HELD):
            return
        self.close()  # after a `fit` that broke off: what it saved is to be read
        self._found = self._folder.open(afresh)
        self._phase = Phase.OPENED

    def _refuse(self, received):
        self.close()
        raise ValueError(
            f"{self.directory} holds the backup of another run. Received: {received}. "
            "Go on as that run began, or choose another directory."
        )

    def _restore(self, found):
        """Give the model what was saved; the other callbacks have theirs once the loop has begun."""
        try:
            others.check(self._siblings(), found["begin"]["callbacks"])
        except ValueError as e:
            self._refuse(str(e))
        if self.owner is not None:
            try:
                self.owner.set_state(found["owner"])
            except (KeyError, TypeError, ValueError) as e:
                self._refuse(f"a state of {type(self.owner).__name__} with {e}")
        self._assign()
        start_from(self.model, self.epoch)
        self._tell(found)

    def _run(self):
        """Once the loop of `fit` has begun, and all callbacks have seen that: restore what they hold."""
        if self._phase is not Phase.BEGUN:
            return
        self._phase = Phase.RUNNING
        self._others = self._siblings()
        start_from(self.model, None)  # not for the next `fit`
        if self._found is None:
            return
        self._begin = self._found["begin"]
        set_random_state(self._begin["random"])
        others.restore(self._others, self._begin["callbacks"])
        self._skip = self._found["calls"]
        if self._skip:
            self._build_metrics = skip_steps(self.model, self._skip, self._found["logs"])

    def _siblings(self):
        """The callbacks of this `fit` beside this one and its owner."""
        return [c for c in siblings(self.owner or self) if c is not self and c is not self.owner]

    def _save(self, epoch, logs=None, over=False):
        if self._phase is Phase.ABANDONED or devices.processes()[1] != 0:
            return
        within = self._calls > 0
        state = {
            "epoch": epoch,
            "calls": self._calls,
            "logs": {name: float(v) for name, v in (logs or {}).items() if np.ndim(v) == 0},
            "over": over,
            "settings": self._settings,
            "owner": None if self.owner is None else self.owner.get_state(),
            "begin": self._begin,
            "random": random_state() if within else None,
            "variables": {
                name: [keras.ops.convert_to_numpy(v) for v in variables]
                for name, variables in self._variables(within).items()
            },
        }
        if within and not _finite(state["variables"]["model"]):
            return  # what is saved already is better to go on from
        try:
            self._folder.write(state)
        except store.BackupError:
            self.close()
            raise

    def _variables(self, within):
        """All variables that training changes, by place; within an epoch the metrics' too."""
        model = self.model
        found = {"model": model.variables, "optimizer": model.optimizer.variables}
        if within:
            found["metrics"] = model.metrics_variables
        kept = None if self.owner is None else self.owner.kept()
        if kept is not None:
            found |= {
                "kept model": kept.graph.variables,
                "kept optimizer": kept.optimizer.variables,
            }
        return found

    def _assign(self):
        """Give every variable its saved value; the metrics' once they are built."""
        saved = self._found["variables"]
        with scope(self.model):
            for place, variables in self._variables(bool(self._skip)).items():
                arrays = saved.get(place, [])
                if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
                    self._refuse(
                        f"{len(variables)} variables of the {place} (it has {len(arrays)}), "
                        "or such of other shapes"
                    )
                for variable, array in zip(variables, arrays, strict=True):
                    variable.assign(array)

    def _exit_if_told(self):
        if self._sigterm.told:
            self._say(f"SIGTERM: the state is in {self.directory}; the same command goes on from it.")
            self.close()
            sys.exit(TERMINATED)

    def _tell(self, found):
        if found["over"]:
            line = (
                f"{self.directory} holds a run that is over: nothing is trained, and the model is as "
                "that run left it. Remove the directory to train afresh."
            )
            if self._phase is Phase.HELD:  # who opened it ahead knows what it holds
                self._say(line)
            else:
                warnings.warn(line, stacklevel=3)
            return
        steps = f", step {found['calls']}" if found["calls"] else ""
        self._say(f"goes on from epoch {self.epoch}{steps}, saved in {self.directory}.")

    def _say(self, line):
        if self.verbose:
            print(f"Backup: {line}", flush=True)


def _finite(arrays):
    floats = (a for a in arrays if keras.backend.is_float_dtype(a.dtype.name))
    return all(np.isfinite(a).all() for a in floats)
