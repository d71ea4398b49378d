"""ADPrune: when to measure, to prune and to stop; the algorithm is in the modules it calls."""

import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from numpy.typing import ArrayLike

from adprune_keras.backup.callback import Backup
from adprune_keras.graph.choices import Shortcuts, Weights
from adprune_keras.live.loop import time_first_step
from adprune_keras.prune import checks, finite, messages, planning, state
from adprune_keras.prune.nets import Nets
from adprune_keras.prune.schedule import (
    KEEP,
    PRUNE,
    ROLLBACK,
    STOP,
    Schedule,
    as_schedule,
    decide,
    is_last,
    profile,
    why_never,
)
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.record.entry import NetEntry, add_epoch, costs, open_entry

# Arguments that a run may go on with changed.
_NOT_OF_THE_RUN = ("backup_dir", "save_freq", "verbose")


class ADPrune(keras.callbacks.Callback):
    """Prunes a CNN while it trains, by activation density (Foldy-Porto et al., Algorithm 1).

    Put it first in `callbacks`, so that `activation_density` (total AE, Eq. 1) is in the `logs` that
    later callbacks, History and the progress bar read. After each epoch it looks at total AE. Once
    AE has saturated (rho), each layer shrinks to `round(AE x width)` channels: the densest stay, with
    their weights and their state in the optimizer (or all is drawn anew, as in the paper). The model is
    rebuilt in place and training goes on; `model` stays the same object with the loss and metrics it was
    compiled with. Where AE rises over a net's epochs (delta) pruning is over, and the net before it
    trains on.

    Every change of the model happens between two epochs, before the next one begins. So whatever
    other callbacks do at an epoch's end (a checkpoint, say) they do to the net whose metrics `logs`
    holds, and training that ends early never leaves a net that has not trained.

    An epoch that fails (a loss, density or weight that is not finite, or no batch at all) ends the
    training as `keras.callbacks.TerminateOnNaN` does: `fit` returns, a warning and the record say what
    is not finite and where first, and nothing is pruned. The model is left as that epoch made it.

    Args:
        target: float or `None`, an OPS reduction in the deployed count at which pruning ends: the prune
            that would pass it is made smaller, and the net is final. Defaults to `None`.
        schedule: when to prune. `None` (default) is `Saturation()`, the paper's rho and delta; a list of
            int names the epochs after which to prune, counted from 1 over the whole `fit`.
        weights: `"inherit"` (default): the densest channels keep their weights and their state in the
            optimizer, whose counters and learning rate go on; see `resize`. `"random"` (the paper's):
            new weights, and an optimizer that starts afresh with its learning-rate schedule. The paper
            found no difference after 210 epochs; in short runs on CIFAR-10 inheriting ended 7 to 9
            points higher (docs/layers.md).
        shortcuts: `"project"` (default, the paper's): each end of a shortcut has a width of its own, and
            a 1x1 projection joins them; `"couple"`: one width for all that an Add ties together, and
            the topology stays.
        rule: `WidthRule`, how a density becomes a width. Defaults to `WidthRule()`.
        sample_places: int or `None`, activations are counted at about so many places of each map
            (H, W), spread over it and others in each image; `None`: at all. Defaults to 16: within
            0.001 of the exact AE of a layer over 4,000 images, at about 1% of a training step
            (docs/performance.md).
        backup_dir: str, path or `None` (default). After every epoch the whole state of the `fit` is
            saved there, and the same script, started again, goes on from it: with the same nets,
            weights, optimizer and History as if it had never ended. One directory for one `fit`; what
            it promises, and for which data, is in docs/faults.md.
        save_freq: int or `None`, with `backup_dir`: save also every so many steps. Defaults to `None`.
        seed: int or `None`, makes the new weights of each net repeatable. Defaults to `None`.
        verbose: 0 or 1. With 1 (default) each prune prints one line: which net, why, what it saves.

    Attributes:
        record: list of `NetEntry` (typed dicts), plain data. One entry for each stretch of epochs that
            a net trained: `net` (index), `start` and `epochs` (epoch counts), `widths`, `kept_channels`
            (`{layer name: sorted indices}`: the channels of the net before that this one kept; `None`
            for net0 and for random weights), `cost`, `ops_reduction` and `params_reduction` (against
            net0, both counts), `layer_costs` (`Cost.by_layer`), `logs` and `densities` (per epoch),
            `channel_densities` (its last epoch), `profile` (convex, flat or concave: the slope of its
            AE, flat within `rho` an epoch), `outcome` (training, pruned, rolled back, final or failed)
            and `reason`; `rebuild_seconds` (from the decision to the net in place) and
            `retrace_seconds` (its first step: tracing, compiling, and the step).

    Raises:
        ValueError: an argument out of its range; at the start of training, a model that is not
            compiled, has no graph, no ReLU, or no layer that may be resized, and a `backup_dir` that
            holds the backup of another run, a damaged one, or is in use.
        BackupError: (an OSError) the state could not be saved; what was saved before is intact.

    Example:
    >>> prune = ADPrune()
    >>> model.fit(train, epochs=300, validation_data=val, callbacks=[prune])
    >>> prune.record[-1]["widths"]
    """

    def __init__(
        self,
        *,
        target: float | None = Pruning.target,
        schedule: Schedule | int | Iterable[int] | None = None,
        weights: Weights = Pruning.weights,
        shortcuts: Shortcuts = Pruning.shortcuts,
        rule: WidthRule | None = None,
        sample_places: int | None = Pruning.sample_places,
        backup_dir: str | pathlib.Path | None = None,
        save_freq: int | None = None,
        seed: int | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.schedule = as_schedule(schedule)
        if rule is not None and not isinstance(rule, WidthRule):
            raise ValueError(f"`rule` must be a WidthRule or None. Received: rule={rule!r}")
        self.rule = rule or WidthRule()
        self.pruning = Pruning(
            target=target, weights=weights, shortcuts=shortcuts, sample_places=sample_places
        )
        self.seed = seed
        self.verbose = verbose
        self.backup: Backup | None = None
        self._progress = state.Progress()
        if backup_dir is not None:
            self.backup = Backup(backup_dir, save_freq, self, verbose)
            # Only now, as a hook for each step costs Keras its asynchronous dispatch.
            self.on_train_batch_end = self.backup.on_train_batch_end
        elif save_freq is not None:
            raise ValueError(f"`save_freq` needs a `backup_dir`. Received: save_freq={save_freq!r}")

    @property
    def record(self) -> list[NetEntry]:
        """The nets so far, as plain data; see the attributes above."""
        return self._progress.record

    @property
    def final(self) -> bool:
        """True once the current net is the final one: no prune can follow."""
        return self._progress.final_since is not None

    @property
    def planned_epochs(self) -> int:
        """Epochs that the current net will train in all, as far as is known: for its learning rate."""
        progress, cycle = self._progress, self.schedule.final_epochs
        end = progress.epochs
        if progress.final_since is not None and cycle is not None:
            end = min(end, progress.final_since + cycle)
        return end - self.record[-1]["start"]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **vars(self.pruning),
            "schedule": self.schedule,
            "rule": self.rule,
            "backup_dir": None if self.backup is None else str(self.backup.directory),
            "save_freq": None if self.backup is None else self.backup.save_freq,
            "seed": self.seed,
            "verbose": self.verbose,
        }

    def plan(self, model: keras.Model, densities: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """Say what a prune would do, without doing anything.

        Args:
            model: Functional or built Sequential `keras.Model`.
            densities: `{layer name: density of each channel, or one number}`, as
                `activation_density(model, data, shortcuts=...)` returns them.

        Returns:
            dict: `widths` (new ones, by layer), `cost`, and `ops_reduction` and `params_reduction`
            against the model as it is; each of the last three both ways of counting.

        Raises:
            ValueError: no graph, a layer without a density, or what `fit` refuses too: no layer that may
                be resized, a pattern of the rule that matches none.

        Example:
        >>> prune.plan(model, activation_density(model, x_train))["ops_reduction"]["deployed"]
        """
        found = planning.plan(model, self, densities)
        return {"widths": found.widths, **costs(found.before, found.after)}

    def settings(self):
        """Return the arguments that a run which goes on must have begun with, as plain data."""
        config = {k: v for k, v in self.get_config().items() if k not in _NOT_OF_THE_RUN}
        schedule, rule = config.pop("schedule"), config.pop("rule")
        return {"schedule": type(schedule).__name__, **vars(schedule), **vars(rule), **config}

    def get_state(self):
        """Return what the callback knows, as plain data, for `set_state`; no variable's value."""
        return state.get_state(self._progress)

    def set_state(self, values):
        """Give the model, as net0, the structure that it had when `get_state` was called."""
        self._progress = state.set_state(values, self._nets, self.pruning.weights)

    def kept(self):
        """Return the net that a rollback would go back to, or `None`."""
        return self._nets.previous

    def on_train_begin(self, logs=None):
        """Find what may be pruned, and start measuring."""
        checks.check_compiled(self.model)
        self._nets = Nets(self.model, self.pruning, self.schedule.rollback, self.seed)
        groups, weights = self._nets.groups, self.pruning.weights
        checks.check_prunable(self.model, groups, self.rule)
        checks.check_trainable(groups, weights)
        checks.warn_of_layers(groups, self.rule, weights)
        self._progress = state.Progress()
        self._dead = set()
        self._baseline = checks.cost_or_warning(self.model, groups)
        self._nets.meter.attach()
        self._open_entry(done=0, seconds=0.0)
        if self.backup is not None:
            self.backup.set_model(self.model)
            self.backup.set_params(self.params)
            try:
                self.backup.on_train_begin()
            except Exception:
                self._nets.meter.detach()
                raise

    def on_epoch_begin(self, epoch, logs=None):
        """Carry out what the last epoch decided, then measure anew."""
        progress = self._progress
        if progress.first_epoch is None:
            progress.first_epoch = epoch
            progress.epochs = self.params["epochs"] - epoch
            if never := why_never(self.schedule, progress.epochs):
                self._say(f"{never} Nothing will be pruned.")
        if self.backup is not None:
            self.backup.on_epoch_begin(epoch)
        if progress.pending is not None:
            self._carry_out(progress.pending, done=epoch - progress.first_epoch)
            progress.pending = None
        self._nets.meter.reset()

    def on_epoch_end(self, epoch, logs=None):
        """Read the densities, record them, decide."""
        density, progress = self._nets.meter.read(), self._progress
        logs = {} if logs is None else logs
        logs["activation_density"] = density.total
        entry, done = self.record[-1], epoch - progress.first_epoch + 1
        add_epoch(entry, logs, density.layers)
        entry["channel_densities"] = {k: v.tolist() for k, v in density.channels.items()}
        if finite.end_if_failed(self.model, entry, logs, done, density.layers):
            if self.backup is not None:
                self.backup.abandon()
            return
        checks.warn_of_dead_layers(density.layers, progress.net, self._dead)

        series = entry["logs"]["activation_density"]
        entry["profile"] = profile(series, self.schedule.rho)
        decision = decide(
            self.schedule, series, progress.net, done, progress.epochs, progress.final_since
        )
        step = planning.next_step(decision, self._nets.groups, density, self, self._baseline)
        if step.reason:
            entry["reason"] = step.reason
        if step.action in (PRUNE, ROLLBACK):
            entry["outcome"] = "pruned" if step.action == PRUNE else "rolled back"
            progress.pending = step
        elif step.action == KEEP:
            self._end_pruning(done)
            self._say(f"after epoch {done}: net{progress.net} is the final net: {step.reason}.")
        elif step.action == STOP:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Leave the model as plain Keras; say so where nothing was pruned, and why."""
        if self.backup is not None:
            self.backup.on_train_end()
        self._nets.meter.detach()
        self._nets.forget()
        entry = self.record[-1]
        if entry["outcome"] != "failed":
            entry["outcome"] = "final"
        if self._progress.pending is not None:
            entry["reason"] += ", but training ended first"
            self._progress.pending = None
        if self._progress.net == 0 and not entry["reason"]:
            series = entry["logs"].get("activation_density", [])
            entry["reason"] = messages.why_not_pruned(series, self.schedule)
            self._say(entry["reason"])

    def _carry_out(self, step, done):
        """Put the next net, or the one before, in the place of the current one."""
        progress, begin = self._progress, time.perf_counter()
        if step.action == PRUNE:
            self._nets.shrink(step.widths, step.kept_channels, progress.net)
            progress.net, kept = progress.net + 1, step.kept_channels
        else:
            self._nets.go_back()
            progress.net -= 1
            kept = progress.kept_channels(progress.net)
        progress.asked.append(step.widths)
        self._open_entry(done, time.perf_counter() - begin, kept)
        over = step.action == ROLLBACK or step.reached
        if over or is_last(self.schedule, progress.net, done, progress.epochs):
            self._end_pruning(done)
        self._say(messages.changed(*self.record[-2:], step))

    def _end_pruning(self, done):
        """The current net is the final one, and there is nothing to go back to any more."""
        self._progress.final_since = done
        self._nets.forget()

    def _open_entry(self, done, seconds, kept=None):
        counted = self._baseline
        if counted and self.record:  # net0 is the baseline itself
            counted = checks.cost_or_warning(self.model, self._nets.groups)
        widths = self._nets.groups.widths()
        entry = open_entry(widths, self._progress.net, done, self._baseline, counted, kept)
        entry["rebuild_seconds"] = seconds
        time_first_step(self.model, lambda spent: entry.update(retrace_seconds=spent))
        self.record.append(entry)

    def _say(self, line):
        if self.verbose:
            print(f"ADPrune: {line}")
