"""The whole state of a `fit`, on disk after every epoch, and back again."""

import inspect
import json
import os
import pathlib
import signal
import sys
import threading
import warnings
from typing import Any

import keras
import numpy as np

from adprune_keras.backup import store
from adprune_keras.backup.identity import layers_of, optimizer_of
from adprune_keras.backup.random_state import random_state, set_random_state
from adprune_keras.backup.sigterm import TERMINATED
from adprune_keras.files.atomic import tidy
from adprune_keras.files.lock import Lock
from adprune_keras.live import devices
from adprune_keras.live.callback_state import callback_state, check_callback_state, set_callback_state
from adprune_keras.live.keras_private import scope
from adprune_keras.live.loop import siblings, skip_steps, start_from
from adprune_keras.text import plain


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
        self._lock, self._found, self._number = None, None, 0
        self._opened = self._held = self._begun = self._terminated = False

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
        self._held = True

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
        if self._lock is not None:
            if remove:
                store.remove(self.directory)
            self._lock.release()
            self._lock = None
            if remove and not any(self.directory.iterdir()):
                self.directory.rmdir()
        self._opened = self._held = self._begun = False

    def abandon(self):
        """Save no more: the epoch that has ended is not one to go on from."""
        self._abandoned = True

    def on_train_begin(self, logs=None):
        """Restore what there is."""
        if self._begun:  # by a `fit` that broke off: what it saved is to be read
            self.close()
        self._open()
        self._begun = True
        if self.owner is not None:
            self.check(type(self.owner).__name__, self.owner.settings())
        self.check("fit", {"epochs": self.params["epochs"], "backend": keras.backend.backend()})
        self.check("model", layers_of(self.model))
        self.check("optimizer", optimizer_of(self.model.optimizer))
        self._running = self._terminated = self._abandoned = False
        self._skip = 0
        if not self.model.optimizer.built:  # TensorFlow leaves that to the first step
            with scope(self.model):
                self.model.optimizer.build(self.model.trainable_variables)
        if self._found is not None:
            self._check_others()
            if self.owner is not None:
                try:
                    self.owner.set_state(self._found["owner"])
                except (KeyError, TypeError, ValueError) as e:
                    self._refuse(f"a state of {type(self.owner).__name__} with {e}")
            self._assign()
            start_from(self.model, self.epoch)
            self._tell()
        self._previous_handler = None
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_epoch_begin(self, epoch, logs=None):
        """Save; or, in the first epoch of a `fit` that goes on, restore what other callbacks hold."""
        self._calls = self._saved_at = 0
        self._epoch = epoch
        first = not self._running
        if first:
            self._go_on()
        if not (first and self._found):
            self._begin = {"random": random_state(), "callbacks": self._others()}
            self._save(epoch)
        self._found = None if not self._skip else self._found
        self._exit_if_terminated()

    def on_train_batch_end(self, batch, logs=None):
        """Save every `save_freq` steps, and when the process is told to end."""
        self._calls += 1
        if self._skip:
            if self._calls == self._skip:
                self._build_metrics()
                self._assign()
                set_random_state(self._found["random"])
                self._skip, self._saved_at, self._found = 0, batch + 1, None
        elif self._terminated or (self.save_freq and batch + 1 - self._saved_at >= self.save_freq):
            self._saved_at = batch + 1
            self._save(self._epoch, logs)
        self._exit_if_terminated()

    def on_train_end(self, logs=None):
        """Save the end of training: whoever saves the model afterwards may fail to."""
        if not self._running:
            self._go_on()
        self._begin = {"random": random_state(), "callbacks": self._others()}
        self._calls = 0
        if not self._abandoned:
            self._save(self.params["epochs"], over=True)
        self._found, self._begun = None, False
        self._exit_if_terminated()
        self._leave()
        if not self._held:
            self.close()

    def _open(self, afresh=False):
        if self._opened:
            return
        self._opened = True
        many, process = devices.processes()
        found = None
        try:
            if process == 0:
                self.directory.mkdir(parents=True, exist_ok=True)
                held = Lock(self.directory)
                taken_over = held.take()
                self._lock = held
                if taken_over:
                    self._say(f"took over {self.directory}: {taken_over}.")
                tidy(self.directory)
                if afresh:
                    store.remove(self.directory)
                found = store.newest(self.directory)
        except OSError as e:
            self.close()
            raise ValueError(
                f"`backup_dir` must be a directory that can be written. Received: {self.directory}: {e}"
            ) from e
        except ValueError:
            self.close()
            raise
        self._number = found.number if found else 0
        body = devices.from_chief(found.body if found else b"", many, process)
        try:
            self._found = _checked(store.decode(body)) if body else None
        except ValueError as e:
            self.close()
            raise ValueError(
                f"The backup is damaged, or was not made by this package. Received: {self.directory}: "
                f"{e}. Remove the directory to start afresh."
            ) from e

    def _refuse(self, received):
        self.close()
        raise ValueError(
            f"{self.directory} holds the backup of another run. Received: {received}. "
            "Go on as that run began, or choose another directory."
        )

    def _go_on(self):
        """The loop of `fit` has begun, and all callbacks have seen that it has."""
        self._running = True
        self._siblings = siblings(self.owner or self)
        start_from(self.model, None)  # not for the next `fit`
        if self._found is None:
            return
        self._begin = self._found["begin"]
        set_random_state(self._begin["random"])
        self._restore_others()
        self._skip = self._found["calls"]
        if self._skip:
            self._build_metrics = skip_steps(self.model, self._skip, self._found["logs"])

    def _save(self, epoch, logs=None, over=False):
        if devices.processes()[1] != 0:
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
            self._lock.check()
            store.write(self.directory, self._number + 1, state)
        except ValueError as e:  # the lock is another's
            self._leave()
            self.close()
            raise store.BackupError(str(e)) from e
        except OSError as e:
            self._leave()
            self.close()
            raise store.BackupError(
                f"The state of epoch {epoch} could not be saved. Received: {self.directory}: {e}. What "
                "was saved before is intact: once there is room, the same command goes on from it."
            ) from e
        self._number += 1

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

    def _others(self):
        """State of the other callbacks: of Keras' own, and of those with `get_state` and `set_state`."""
        return [
            [type(c).__name__, c.get_state() if hasattr(c, "set_state") else callback_state(c)]
            for c in self._siblings
            if c is not self and c is not self.owner
        ]

    def _saved_others(self):
        """Pairs of a callback of this `fit` and the state that was saved of it."""
        states = list(self._found["begin"]["callbacks"])
        for callback in siblings(self.owner or self):
            name = type(callback).__name__
            at = next((i for i, (saved, _) in enumerate(states) if saved == name), None)
            if at is not None and callback is not self and callback is not self.owner:
                yield callback, states.pop(at)[1]

    def _check_others(self):
        try:
            for callback, state in self._saved_others():
                if not hasattr(callback, "set_state"):
                    check_callback_state(callback, state)
        except ValueError as e:
            self._refuse(str(e))

    def _restore_others(self):
        for callback, state in self._saved_others():
            if hasattr(callback, "set_state"):
                callback.set_state(state)
            else:
                set_callback_state(callback, state)

    def _on_sigterm(self, number, frame):
        fit = inspect.unwrap(type(self._model).fit).__code__
        while frame is not None and frame.f_code is not fit:
            frame = frame.f_back
        if frame is not None:
            self._terminated = True
        else:  # a `fit` that broke off has left this handler
            self._leave()
            os.kill(os.getpid(), number)

    def _exit_if_terminated(self):
        if self._terminated:
            self._say(f"SIGTERM: the state is in {self.directory}; the same command goes on from it.")
            self._leave()
            self.close()
            sys.exit(TERMINATED)

    def _leave(self):
        """Put the handler of SIGTERM back."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def _tell(self):
        if self._found["over"]:
            line = (
                f"{self.directory} holds a run that is over: nothing is trained, and the model is as "
                "that run left it. Remove the directory to train afresh."
            )
            if self._held:  # who opened it ahead knows what it holds
                self._say(line)
            else:
                warnings.warn(line, stacklevel=2)
            return
        steps = f", step {self._found['calls']}" if self._found["calls"] else ""
        self._say(f"goes on from epoch {self.epoch}{steps}, saved in {self.directory}.")

    def _say(self, line):
        if self.verbose:
            print(f"Backup: {line}", flush=True)


def _checked(state):
    """Return a decoded state; `ValueError` where its parts are not of the kind that `_save` writes."""
    kinds = {"epoch": int, "calls": int, "logs": dict, "over": bool, "settings": dict}
    kinds |= {"begin": dict, "variables": dict}
    for name, kind in kinds.items():
        if not isinstance(state, dict) or not isinstance(state.get(name), kind):
            raise ValueError(f"its `{name}` is not of type {kind.__name__}")
    others = state["begin"].get("callbacks")
    if not isinstance(others, list) or not all(isinstance(o, list) and len(o) == 2 for o in others):
        raise ValueError("its states of callbacks are not pairs of a name and a state")
    for place, arrays in state["variables"].items():
        if not isinstance(arrays, list) or not all(isinstance(a, np.ndarray) for a in arrays):
            raise ValueError(f"its variables of the {place} are not arrays")
    if min(state["epoch"], state["calls"]) < 0:
        raise ValueError("it counts fewer than no epochs or steps")
    return state


def _finite(arrays):
    floats = (a for a in arrays if keras.backend.is_float_dtype(a.dtype.name))
    return all(np.isfinite(a).all() for a in floats)
