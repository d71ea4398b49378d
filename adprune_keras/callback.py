"""ADPrune: when to measure, to prune and to stop; the algorithm is in the modules it calls."""

import warnings

import keras

from adprune_keras.accounting import COUNTS, cost, ops_reduction, params_reduction
from adprune_keras.groups import find_groups, layer_widths
from adprune_keras.rebuild import resize
from adprune_keras.schedule import (
    KEEP,
    PRUNE,
    ROLLBACK,
    STOP,
    Decision,
    Schedule,
    decide,
    is_last,
    why_never,
)
from adprune_keras.swap import Meter, Net, current_net, optimizer_recipe, swap
from adprune_keras.widths import WidthRule, next_widths


class ADPrune(keras.callbacks.Callback):
    """Prunes a CNN while it trains, by activation density (Foldy-Porto et al., Algorithm 1).

    Put it first in `callbacks`, so that `activation_density` (total AE, Eq. 1) is in the `logs` that
    later callbacks, History and the progress bar read. After each epoch it looks at total AE. Once
    AE has saturated (rho), each layer shrinks to `round(AE x width)` channels, the model is rebuilt
    in place with new weights, the optimizer starts afresh with its learning-rate schedule, and
    training goes on; `model` stays the same object with the loss and metrics it was compiled with.
    Where AE rises over a net's epochs (delta) pruning is over, and the net before it trains on.

    Every change of the model happens between two epochs, before the next one begins. So whatever
    other callbacks do at an epoch's end (a checkpoint, say) they do to the net whose metrics `logs`
    holds, and training that ends early never leaves a net that has not trained.

    Args:
        min_delta: float, rho: AE counts as saturated when its change from one epoch to the next is
            below this. Defaults to 0.001, the paper's value.
        patience: int, rho: consecutive changes that must be below `min_delta`. Defaults to 2, the
            paper's "two or more consecutive epochs".
        min_epochs: int, epochs that each net trains before rho is looked at. Defaults to 10: batch
            normalisation holds AE near 0.5 at first, whatever the network learns. On a quarter-width
            VGG-19 (4,000 CIFAR-10 images) the bare criterion fired at epochs 5 and 8, with accuracy
            at 25% on its way to 45%.
        prune_at: list of int or `None`, epochs after which to prune, counted from 1 over the whole
            `fit` (the paper's fixed 25 for CIFAR-100 and TinyImageNet). It takes the place of both
            rho and delta. Defaults to `None`.
        max_prunes: int or `None`, prunes after which the net is final. Defaults to `None`.
        final_epochs: int or `None`, epochs that the final net trains; then training stops. No net is
            pruned when fewer are left. `fit(epochs=...)` is the ceiling. Defaults to `None`: to the
            end of `fit`, of which half must be left, as the paper's final cycle is the longest.
        rollback: bool, what delta does: `True` (default, the paper's choice of final nets) goes back
            to the net before, with its weights and optimizer, and trains it on; `False` keeps the
            current net.
        rule: `WidthRule`, how a density becomes a width. Defaults to `WidthRule()`.
        seed: int or `None`, makes the new weights of each net repeatable. Defaults to `None`.
        verbose: 0 or 1. With 1 (default) each prune prints one line: which net, why, what it saves.

    Attributes:
        record: list of dicts, plain data. One entry for each stretch of epochs that a net trained:
            `net` (index), `start` and `epochs` (epoch counts), `widths`, `cost`, `ops_reduction`
            and `params_reduction` (against net0, both counts), `logs` and `densities` (per epoch),
            `channel_densities` (its last epoch), `outcome` and `reason`.

    Raises:
        ValueError: an argument out of its range; at the start of training, a model that is not
            compiled, has no graph, no ReLU, or no layer that may be resized.

    Example:
    >>> prune = ADPrune()
    >>> model.fit(train, epochs=300, validation_data=val, callbacks=[prune])
    >>> prune.record[-1]["widths"]
    """

    def __init__(
        self,
        *,
        min_delta=1e-3,
        patience=2,
        min_epochs=10,
        prune_at=None,
        max_prunes=None,
        final_epochs=None,
        rollback=True,
        rule=None,
        seed=None,
        verbose=1,
    ):
        super().__init__()
        self.schedule = Schedule(
            min_delta, patience, min_epochs, prune_at, max_prunes, final_epochs, rollback
        )
        if rule is not None and not isinstance(rule, WidthRule):
            raise ValueError(f"`rule` must be a WidthRule or None. Received: rule={rule!r}")
        self.rule = rule or WidthRule()
        self.seed = seed
        self.verbose = verbose
        self.record = []
        self._final_since = None

    @property
    def final(self):
        """True once the current net is the final one: no prune can follow."""
        return self._final_since is not None

    @property
    def planned_epochs(self):
        """Epochs that the current net will train in all, as far as is known: for its learning rate."""
        end = self._epochs
        if self.final and self.schedule.final_epochs is not None:
            end = min(end, self._final_since + self.schedule.final_epochs)
        return end - self.record[-1]["start"]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **vars(self.schedule),
            "rule": self.rule,
            "seed": self.seed,
            "verbose": self.verbose,
        }

    def on_train_begin(self, logs=None):
        """Find what may be pruned, and start measuring."""
        if not getattr(self.model, "compiled", False):
            raise ValueError(
                "ADPrune needs a compiled model: call `model.compile(...)` before `fit`. "
                f"Received: model={self.model.name!r}, not compiled"
            )
        self._meter = Meter(self.model)
        groups = find_groups(self.model)
        if not groups.prunable():
            raise ValueError(
                f"No layer of model '{self.model.name}' may be resized. Received: "
                + "; ".join(f"'{g.owner}' ({g.fixed or 'no ReLU follows it'})" for g in groups.groups)
            )
        for group in groups.groups:
            if group.relus and group.fixed and "output of the model" not in group.fixed:
                warnings.warn(f"'{group.owner}' keeps its width: {group.fixed}.", stacklevel=2)
        self._new_optimizer = optimizer_recipe(self.model.optimizer)
        self._previous = self._pending = self._final_since = None
        self._first_epoch = None
        self._net = 0
        self.record = []
        self._baseline = _count(self.model)
        self._open_entry(done=0)
        self._meter.attach()

    def on_epoch_begin(self, epoch, logs=None):
        """Carry out what the last epoch decided, then measure anew."""
        if self._first_epoch is None:
            self._first_epoch = epoch
            self._epochs = self.params["epochs"] - epoch
            if never := why_never(self.schedule, self._epochs):
                self._say(f"{never} Nothing will be pruned.")
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
        entry["epochs"] += 1
        for name, value in logs.items():
            entry["logs"].setdefault(name, []).append(float(value))
        for layer, value in density.layers.items():
            entry["densities"].setdefault(layer, []).append(value)
        entry["channel_densities"] = {k: v.tolist() for k, v in density.channels.items()}

        series = entry["logs"]["activation_density"]
        decision = decide(self.schedule, series, self._net, done, self._epochs, self._final_since)
        if decision.action == PRUNE and self._next_widths(density) == entry["widths"]:
            decision = Decision(KEEP, f"{decision.reason}, but no layer would become narrower")
        if decision.reason:
            entry["reason"] = decision.reason
        if decision.action in (PRUNE, ROLLBACK):
            self._pending = decision, density
        elif decision.action == KEEP:
            self._final_since, self._previous = done, None
            self._say(f"epoch {done}: net{self._net} is the final net: {decision.reason}.")
        elif decision.action == STOP:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Leave the model as plain Keras; say so where nothing was pruned, and why."""
        self._meter.detach()
        entry = self.record[-1]
        entry["outcome"] = "final"
        if self._pending is not None:
            entry["reason"] += ", but training ended first"
        self._previous = self._pending = None
        if self._net == 0 and not entry["reason"]:
            entry["reason"] = self._why_not(entry["logs"].get("activation_density", []))
            self._say(entry["reason"])

    def _apply(self, pending, done):
        decision, density = pending
        before, entry = self._net, self.record[-1]
        if decision.action == PRUNE:
            entry["outcome"] = "pruned"
            seed = None if self.seed is None else self.seed + before + 1
            graph = resize(self.model, self._next_widths(density), seed=seed)
            self._swap(Net(graph, self._new_optimizer()), keep=self.schedule.rollback)
            self._net += 1
        else:
            entry["outcome"] = "rolled back"
            self._swap(self._previous, keep=False)
            self._net -= 1
        self._open_entry(done)
        last = decision.action == ROLLBACK or is_last(self.schedule, self._net, done, self._epochs)
        if last:  # nothing to go back to any more
            self._final_since, self._previous = done, None
        self._say(f"epoch {done}: net{before} -> net{self._net}: {decision.reason}. {self._saved()}")

    def _swap(self, net, keep):
        self._meter.detach()
        self._previous = current_net(self.model) if keep else None
        swap(self.model, net)
        self._meter = Meter(self.model)
        self._meter.attach()

    def _next_widths(self, density):
        return next_widths(self.record[-1]["widths"], density.layers, self.rule)

    def _open_entry(self, done):
        self.record.append(open_entry(self.model, self._net, done, self._baseline))

    def _saved(self):
        entry = self.record[-1]
        if entry["ops_reduction"] is None:
            return "What it saves cannot be counted."
        ops, params = entry["ops_reduction"], entry["params_reduction"]
        return (
            f"Against net0: OPS {ops['paper']:.2f}x, parameters {params['paper']:.2f}x (paper count); "
            f"OPS {ops['deployed']:.2f}x, parameters {params['deployed']:.2f}x (deployed count)."
        )

    def _why_not(self, series):
        if len(series) < 2:
            return "No net was pruned: fewer than two epochs were trained."
        s = self.schedule
        if s.prune_at:
            return f"No net was pruned: training ended before an epoch of prune_at={s.prune_at}."
        return (
            f"No net was pruned: AE changed by {series[-1] - series[-2]:+.4f} in the last epoch, and "
            f"rho asks for |delta| < {s.min_delta:g} in {s.patience} consecutive epochs after the "
            f"first {s.min_epochs}. Raise min_delta, lower patience, or train longer."
        )

    def _say(self, line):
        if self.verbose:
            print(f"ADPrune: {line}")


def open_entry(model, net, start, baseline):
    """Return the record of a net that is about to train, as plain data; see `ADPrune.record`.

    Args:
        model: the `keras.Model` at the net's widths.
        net: int, its index.
        start: int, epochs finished before it.
        baseline: net0's `Cost`, or `None` where it cannot be counted.
    """
    counted = _count(model) if baseline else None
    reductions = {
        name: counted and {c: reduction(baseline, counted, c) for c in COUNTS}
        for name, reduction in (
            ("ops_reduction", ops_reduction),
            ("params_reduction", params_reduction),
        )
    }
    return {
        "net": net,
        "start": start,
        "epochs": 0,
        "widths": layer_widths(model),
        "cost": counted and {c: vars(getattr(counted, c)) for c in COUNTS},
        **reductions,
        "logs": {},
        "densities": {},
        "channel_densities": {},
        "outcome": "training",
        "reason": "",
    }


def _count(model):
    try:
        return cost(model)
    except ValueError as e:  # what cannot be counted trains and prunes all the same
        warnings.warn(f"The record holds no costs: {e}", stacklevel=3)
        return None
