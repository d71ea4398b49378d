"""ADPrune: when to measure, to prune and to stop; the algorithm is in the modules it calls."""

import itertools
import pathlib
import time
import warnings
from collections.abc import Iterable, Mapping
from math import lcm
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from adprune_keras.backup.callback import Backup
from adprune_keras.counting.count import cost, cost_after
from adprune_keras.counting.reductions import ops_reduction
from adprune_keras.graph.choices import Shortcuts, Weights
from adprune_keras.graph.cut import densest_cut
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild
from adprune_keras.live.exchange import Net, current_net, swap
from adprune_keras.live.keras_private import scope
from adprune_keras.live.loop import time_first_step
from adprune_keras.live.meter import Meter
from adprune_keras.live.optimizer import optimizer_recipe
from adprune_keras.prune import finite
from adprune_keras.prune.messages import saved
from adprune_keras.prune.schedule import (
    KEEP,
    PRUNE,
    ROLLBACK,
    STOP,
    Decision,
    Epochs,
    Schedule,
    as_schedule,
    decide,
    is_last,
    profile,
    why_never,
)
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.target import within_budget
from adprune_keras.prune.widths import WidthRule, next_widths
from adprune_keras.record.entry import add_epoch, costs, open_entry

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
        record: list of dicts, plain data. One entry for each stretch of epochs that a net trained:
            `net` (index), `start` and `epochs` (epoch counts), `widths`, `cost`, `ops_reduction`
            and `params_reduction` (against net0, both counts), `layer_costs` (`Cost.by_layer`), `logs`
            and `densities` (per epoch), `channel_densities` (its last epoch), `profile` (convex, flat
            or concave: the slope of its AE, flat within `rho` an epoch), `outcome` (training,
            pruned, rolled back, final or failed) and `reason`; `rebuild_seconds` (from the decision to
            the net in place) and `retrace_seconds` (its first step: tracing, compiling, and the step).

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
        self.record: list[dict[str, Any]] = []
        self._final_since: int | None = None
        self.backup: Backup | None = None
        if backup_dir is not None:
            self.backup = Backup(backup_dir, save_freq, self, verbose)
            # Only now, as a hook for each step costs Keras its asynchronous dispatch.
            self.on_train_batch_end = self.backup.on_train_batch_end
        elif save_freq is not None:
            raise ValueError(f"`save_freq` needs a `backup_dir`. Received: save_freq={save_freq!r}")

    @property
    def final(self) -> bool:
        """True once the current net is the final one: no prune can follow."""
        return self._final_since is not None

    @property
    def planned_epochs(self) -> int:
        """Epochs that the current net will train in all, as far as is known: for its learning rate."""
        end = self._epochs
        if self._final_since is not None and self.schedule.final_epochs is not None:
            end = min(end, self._final_since + self.schedule.final_epochs)
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
            ValueError: no graph, or a layer without a density.

        Example:
        >>> prune.plan(model, activation_density(model, x_train))["ops_reduction"]["deployed"]
        """
        groups = find_groups(model, self.pruning.shortcuts)
        baseline = cost(model, groups)
        widths, _ = self._next_widths(groups, densities, baseline)
        return {"widths": widths, **costs(baseline, self._cost_after(groups, widths, densities))}

    def settings(self):
        """Return the arguments that a run which goes on must have begun with, as plain data."""
        config = {k: v for k, v in self.get_config().items() if k not in _NOT_OF_THE_RUN}
        schedule, rule = config.pop("schedule"), config.pop("rule")
        return {"schedule": type(schedule).__name__, **vars(schedule), **vars(rule), **config}

    def get_state(self):
        """Return what the callback knows, as plain data, for `set_state`; no variable's value."""
        pending = None
        if self._pending is not None:
            decision, widths, _, last = self._pending
            pending = [decision.action, decision.reason, widths, last]
        return {
            "record": self.record,
            "first_epoch": self._first_epoch,
            "epochs": self._epochs,
            "final_since": self._final_since,
            "pending": pending,
        }

    def set_state(self, state):
        """Give the model, as net0, the structure that it had when `get_state` was called.

        Every prune is done again in turn, so that nothing but widths and densities need be kept.
        """
        for before, after in itertools.pairwise(state["record"]):
            if before["outcome"] == "rolled back":
                self._go_back()
            else:
                self._shrink(after["widths"], before["channel_densities"], before["net"])
        self.record = state["record"]
        self._net = self.record[-1]["net"]
        self._first_epoch, self._epochs = state["first_epoch"], state["epochs"]
        self._final_since = state["final_since"]
        if self.final:
            self._previous = None
        if state["pending"] is not None:
            action, reason, widths, last = state["pending"]
            densities = self.record[-1]["channel_densities"]
            self._pending = Decision(action, reason), widths, densities, last

    def kept(self):
        """Return the net that a rollback would go back to, or `None`."""
        return self._previous

    def on_train_begin(self, logs=None):
        """Find what may be pruned, and start measuring."""
        if not getattr(self.model, "compiled", False):
            raise ValueError(
                "ADPrune needs a compiled model: call `model.compile(...)` before `fit`. "
                f"Received: model={self.model.name!r}, not compiled"
            )
        self._groups = find_groups(self.model, self.pruning.shortcuts)
        self._meter = Meter(self.model, self._groups, self.pruning.sample_places)
        self._check_groups()
        self._new_optimizer = optimizer_recipe(self.model.optimizer)
        self._previous = self._pending = self._final_since = None
        self._first_epoch = None
        self._net = 0
        self._dead = set()
        self.record = []
        self._baseline = _count(self.model, self._groups)
        self._meter.attach()
        self._open_entry(done=0, seconds=0.0)
        if self.backup is not None:
            self.backup.set_model(self.model)
            self.backup.set_params(self.params)
            try:
                self.backup.on_train_begin()
            except Exception:
                self._meter.detach()
                raise

    def on_epoch_begin(self, epoch, logs=None):
        """Carry out what the last epoch decided, then measure anew."""
        if self._first_epoch is None:
            self._first_epoch = epoch
            self._epochs = self.params["epochs"] - epoch
            if never := why_never(self.schedule, self._epochs):
                self._say(f"{never} Nothing will be pruned.")
        if self.backup is not None:
            self.backup.on_epoch_begin(epoch)
        if self._pending is not None:
            self._apply(self._pending, done=epoch - self._first_epoch)
            self._pending = None
        self._meter.reset()

    def on_epoch_end(self, epoch, logs=None):
        """Read the densities, record them, decide."""
        density = self._meter.read()
        logs = {} if logs is None else logs
        logs["activation_density"] = density.total
        entry, done = self.record[-1], epoch - self._first_epoch + 1
        add_epoch(entry, logs, density.layers)
        entry["channel_densities"] = {k: v.tolist() for k, v in density.channels.items()}
        if finite.end_if_failed(self.model, entry, logs, done, density.layers):
            if self.backup is not None:
                self.backup.abandon()
            return
        self._warn_of_dead_layers(density.layers)

        series = entry["logs"]["activation_density"]
        entry["profile"] = profile(series, self.schedule.rho)
        decision = decide(self.schedule, series, self._net, done, self._epochs, self._final_since)
        widths, last = None, False
        if decision.action == PRUNE and density.total == 0:
            decision = Decision(KEEP, f"{decision.reason}, but no ReLU lets anything through")
        if decision.action == PRUNE:
            widths, last = self._next_widths(self._groups, density.channels, self._baseline)
            if last:
                reached = f"target={self.pruning.target:g} is reached"
                decision = Decision(PRUNE, f"{decision.reason}; {reached}")
            if widths == entry["widths"]:
                decision = Decision(KEEP, f"{decision.reason}, but no layer would become narrower")
        if decision.reason:
            entry["reason"] = decision.reason
        if decision.action in (PRUNE, ROLLBACK):
            entry["outcome"] = "pruned" if decision.action == PRUNE else "rolled back"
            self._pending = decision, widths, density.channels, last
        elif decision.action == KEEP:
            self._final_since, self._previous = done, None
            self._say(f"after epoch {done}: net{self._net} is the final net: {decision.reason}.")
        elif decision.action == STOP:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Leave the model as plain Keras; say so where nothing was pruned, and why."""
        if self.backup is not None:
            self.backup.on_train_end()
        self._meter.detach()
        entry = self.record[-1]
        if entry["outcome"] != "failed":
            entry["outcome"] = "final"
        if self._pending is not None:
            entry["reason"] += ", but training ended first"
        self._previous = self._pending = None
        if self._net == 0 and not entry["reason"]:
            entry["reason"] = self._why_not(entry["logs"].get("activation_density", []))
            self._say(entry["reason"])

    def _check_groups(self):
        """Refuse a model that cannot be pruned so; warn once of what stays, or is not exact."""
        groups, prunable = self._groups.groups, self._groups.prunable()
        if not prunable:
            raise ValueError(
                f"No layer of model '{self.model.name}' may be resized. Received: "
                + "; ".join(f"'{g.owner}' ({g.fixed or 'no ReLU follows it'})" for g in groups)
            )
        self.rule.check([g.owner for g in prunable])
        calls = self._groups.trace.calls
        frozen = [c.name for c in calls if getattr(c.op, "weights", ()) and not c.op.trainable]
        if frozen and self.pruning.weights == "random":
            raise ValueError(
                'With weights="random" every layer is drawn anew and must be trained. Received: layers '
                f'that are not trainable: {frozen}. Use weights="inherit", or make them trainable.'
            )
        stay = [g for g in groups if g.relus and g.fixed and "output of the model" not in g.fixed]
        if stay:
            reasons = "; ".join(f"'{g.owner}': {g.fixed}" for g in stay)
            warnings.warn(f"These layers keep their width. {reasons}.", stacklevel=3)
        inexact = [g for g in prunable if g.inexact and self.rule.covers(g.owner)]
        if inexact and self.pruning.weights == "inherit":
            reasons = "; ".join(f"'{g.owner}': {g.inexact}" for g in inexact)
            warnings.warn(f"Inherited weights are not exact for these layers. {reasons}.", stacklevel=3)

    def _warn_of_dead_layers(self, densities):
        dead = [name for name, density in densities.items() if density == 0]
        if new := sorted(set(dead) - self._dead):
            self._dead.update(new)
            warnings.warn(
                f"net{self._net}: no activation of these layers was positive in a whole epoch: {new}. "
                "Where no shortcut leads past them nothing before them trains. Lower the learning rate.",
                stacklevel=3,
            )

    def _apply(self, pending, done):
        decision, widths, densities, reached = pending
        before, begin = self._net, time.perf_counter()
        if decision.action == PRUNE:
            self._shrink(widths, densities, before)
            self._net += 1
        else:
            self._go_back()
            self._net -= 1
        self._open_entry(done, time.perf_counter() - begin)
        over = decision.action == ROLLBACK or reached
        if over or is_last(self.schedule, self._net, done, self._epochs):
            self._final_since, self._previous = done, None  # nothing to go back to any more
        entry, was = self.record[-1], self.record[-2]
        how = "pruned to" if decision.action == PRUNE else "back at"
        channels = sum(entry["widths"].values()), sum(was["widths"].values())
        self._say(
            f"after epoch {done}: net{before} -> net{self._net}, {how} {channels[0]:,} channels from "
            f"{channels[1]:,}, because {decision.reason}. {saved(entry)}"
        )

    def _shrink(self, widths, densities, number):
        """Put the next net of net `number` in its place."""
        seed = None if self.seed is None else self.seed + number + 1
        scores = None
        if self.pruning.weights == "inherit":
            scores = {name: np.asarray(values) for name, values in densities.items()}
        with scope(self.model):
            new = rebuild(self.model, self._groups, widths, self.pruning.weights, scores, seed)
            net = Net(new.model, self._new_optimizer())
        self._swap(net, self.schedule.rollback, new.origins)

    def _go_back(self):
        self._swap(self._previous, keep=False)

    def _swap(self, net, keep, origins=()):
        self._meter.detach()
        self._previous = current_net(self.model) if keep else None
        swap(self.model, net, origins)
        self._groups = find_groups(self.model, self.pruning.shortcuts)
        self._meter = Meter(self.model, self._groups, self.pruning.sample_places)
        self._meter.attach()

    def _next_widths(self, groups, densities, baseline):
        """The next net's widths, and whether `target` made them wider."""
        means = {name: float(np.mean(d)) for name, d in densities.items()}
        widths = groups.widths()
        parts = {g.owner: g.parts for g in groups.prunable()}
        wanted = next_widths(widths, means, self.rule, parts)
        if self.pruning.target is None or baseline is None:
            return wanted, False

        def reduction(candidate):
            after = self._cost_after(groups, candidate, densities)
            return ops_reduction(baseline, after, "deployed")

        multiples = {name: lcm(self.rule.round_to, n) for name, n in parts.items()}
        return within_budget(widths, wanted, reduction, self.pruning.target, multiples)

    def _cost_after(self, groups, widths, densities):
        return cost_after(densest_cut(groups, widths, densities, self.pruning.weights == "inherit"))

    def _open_entry(self, done, seconds):
        counted = self._baseline
        if counted and self.record:  # net0 is the baseline itself
            counted = _count(self.model, self._groups)
        widths = self._groups.widths()
        entry = open_entry(widths, self._net, done, self._baseline, counted)
        entry["rebuild_seconds"] = seconds
        time_first_step(self.model, lambda spent: entry.update(retrace_seconds=spent))
        self.record.append(entry)

    def _why_not(self, series):
        if len(series) < 2:
            return "No net was pruned: fewer than two epochs were trained."
        s = self.schedule
        if isinstance(s, Epochs):
            return f"No net was pruned: training ended before an epoch of schedule={list(s.prune_at)}."
        return (
            f"No net was pruned: AE changed by {series[-1] - series[-2]:+.4f} in the last epoch, and "
            f"must change by less than {s.rho:g} in each of {s.patience} epochs in a row, after "
            f"the first {s.min_epochs}. Raise rho, lower patience, or train longer."
        )

    def _say(self, line):
        if self.verbose:
            print(f"ADPrune: {line}")


def _count(model, groups):
    try:
        counted = cost(model, groups)
        ops_reduction(counted, counted)
        return counted
    except ValueError as e:  # what cannot be counted trains and prunes all the same
        warnings.warn(f"The record holds no costs: {e}", stacklevel=3)
        return None
