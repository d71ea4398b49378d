"""What a prune would make of a network, layer by layer; nothing is built."""

from dataclasses import dataclass
from math import lcm

import numpy as np

from adprune_keras.counting.count import cost, cost_after
from adprune_keras.counting.counts import Cost
from adprune_keras.counting.reductions import ops_reduction
from adprune_keras.graph.cut import choose, densest_cut
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.walk import FIXED_WIDTH
from adprune_keras.prune.checks import check_prunable
from adprune_keras.prune.schedule import KEEP, PRUNE
from adprune_keras.prune.state import Step
from adprune_keras.prune.target import within_budget
from adprune_keras.prune.widths import next_widths

_STEP = 2.0**-20  # between made-up densities of a layer: small, and exact in sums


@dataclass(frozen=True)
class Line:
    """What becomes of one layer.

    Attributes:
        layer: str, its name.
        widths: (before, after), ints; before is `None` for a projection that is new.
        macs: (before, after), ints, for one image.
        params: likewise, those of the deployed count.
        owner: name of the layer that owns its width (itself, or that of its group), or `None` where its
            channels are no group's.
        relus: names of the ReLUs that follow its channels.
        density: float, AE, or `None` where no ReLU follows.
        stays: `None`, or the reason why its width stays.
    """

    layer: str
    widths: tuple
    macs: tuple
    params: tuple
    owner: str | None
    relus: tuple
    density: float | None
    stays: str | None


@dataclass(frozen=True)
class Plan:
    """What a prune would make of a network.

    Attributes:
        lines: list of `Line`, in graph order.
        widths: `{layer name: new width}` of all that pruning may resize.
        before: `Cost` of the network.
        after: `Cost` of what it becomes.
        inexact: `{layer name: reason}` of the layers whose inherited weights are not exact.
    """

    lines: list
    widths: dict
    before: Cost
    after: Cost
    inexact: dict


def plan(model, prune, densities, groups=None):
    """Say what a prune would make of each layer; nothing is built.

    Args:
        model: Functional or built Sequential `keras.Model` whose spatial sizes are known.
        prune: `ADPrune`, with the rule and the options of the prune.
        densities: `{layer name: density of each channel, or one number}`, as `activation_density`
            returns them.
        groups: the model's `Groups`, where they are known already.

    Returns:
        A `Plan`.

    Raises:
        ValueError: no graph, a layer without a density, no layer that may be resized, or a pattern of
            the rule that matches none.
    """
    pruning = prune.pruning
    groups = groups or find_groups(model, pruning.shortcuts)
    check_prunable(model, groups, prune.rule)
    before = cost(model, groups)
    widths, _ = _new_widths(groups, densities, pruning, prune.rule, before)
    after = _cost_after(groups, widths, densities, pruning)
    reasons = {g.owner: _stays(g, widths, prune.rule) for g in groups.groups}
    group_of = _groups_of_layers(groups)
    old, lines = iter(before.rows), []
    for row in after.rows:
        new = row.kind == "Projection"
        was = None if new else next(old)
        group = group_of.get(row.layer)
        relus = tuple(dict.fromkeys(group.relus)) if group else ()
        density = densities.get(group.owner) if relus else None
        lines.append(
            Line(
                row.layer,
                (None if new else was.width, row.width),
                (0 if new else was.macs, row.macs),
                (0 if new else was.params + was.bias, row.params + row.bias),
                group.owner if group else None,
                relus,
                None if density is None else float(np.mean(density)),
                reasons[group.owner] if group else None,
            )
        )
    inexact = {g.owner: g.inexact for g in groups.prunable() if g.inexact and widths[g.owner] < g.width}
    return Plan(lines, widths, before, after, inexact if pruning.weights == "inherit" else {})


def next_step(decision, groups, density, prune, baseline):
    """Return what follows an epoch: a decision of the schedule, with what a prune does.

    Args:
        decision: `schedule.Decision`.
        groups: `Groups` of the network.
        density: `Density` of the epoch.
        prune: as in `plan`.
        baseline: net0's `Cost`, or `None` where it cannot be counted: no target holds then.

    Returns:
        A `Step`; where nothing would become narrower it keeps the net.
    """
    reason, pruning = decision.reason, prune.pruning
    if decision.action != PRUNE:
        return Step(decision.action, reason)
    if density.total == 0:
        return Step(KEEP, f"{reason}, but no ReLU lets anything through")
    widths, reached = _new_widths(groups, density.channels, pruning, prune.rule, baseline)
    if reached:
        reason = f"{reason}; target={pruning.target:g} is reached"
    if widths == groups.widths():
        return Step(KEEP, f"{reason}, but no layer would become narrower")
    kept = kept_channels(groups, widths, density.channels) if pruning.weights == "inherit" else None
    return Step(PRUNE, reason, widths, kept, reached)


def _new_widths(groups, densities, pruning, rule, baseline):
    """The next net's widths, and whether the target made them wider."""
    means = {name: float(np.mean(d)) for name, d in densities.items()}
    widths = groups.widths()
    parts = {g.owner: g.parts for g in groups.prunable()}
    wanted = next_widths(widths, means, rule, parts)
    if pruning.target is None or baseline is None:
        return wanted, False

    def reduction(candidate):
        after = _cost_after(groups, candidate, densities, pruning)
        return ops_reduction(baseline, after, "deployed")

    multiples = {name: lcm(rule.round_to, n) for name, n in parts.items()}
    return within_budget(widths, wanted, reduction, pruning.target, multiples)


def _cost_after(groups, widths, densities, pruning):
    return cost_after(densest_cut(groups, widths, densities, pruning.weights == "inherit"))


def kept_channels(groups, widths, densities):
    """Return which channels a prune keeps: the densest of each layer.

    Args:
        groups: `Groups` of the network.
        widths: `{layer name: new width}`.
        densities: `{layer name: density of each channel}`.

    Returns:
        `{layer name: sorted list of indices}` of all layers that pruning may resize.
    """
    chosen = choose(groups, widths, densities)
    return {
        name: chosen[name].tolist() if name in chosen else list(range(width))
        for name, width in groups.widths().items()
    }


def assumed_densities(groups, density, seed=0):
    """Return made-up densities: the same mean for every layer, and no channel like another.

    Which channels stay is thus a random choice, as it is not known without data: where two layers are
    added, those of one are not those of the other, and a shortcut gets its projection.

    Args:
        groups: `Groups` of the model.
        density: float in [0, 1], the mean; single channels lie by up to 0.002 beside it.
        seed: int, of the choice.

    Returns:
        `{layer name: float array (C,)}`.
    """
    rng = np.random.default_rng(seed)
    return {
        g.owner: density + _STEP * (rng.permutation(g.width) - (g.width - 1) / 2)
        for g in groups.prunable()
    }


def _groups_of_layers(groups):
    """`{layer name: the group that its output's channels are}`, where they are one."""
    found = {}
    for call in groups.trace.calls:
        channels = groups.channels.get(id(call.outputs[0]))
        own = () if channels is None else channels[channels != FIXED_WIDTH]
        if len(own) and len(which := np.unique(groups.of(own))) == 1:
            found.setdefault(call.name, groups.groups[which[0]])
    return found


def _stays(group, widths, rule):
    """The reason why a group keeps its width, or `None`."""
    if group.fixed:
        return group.fixed
    if not group.relus:
        return "no ReLU follows, so nothing says which channels matter"
    if not rule.covers(group.owner):
        return "--include and --exclude leave it out"
    if widths[group.owner] == group.width:
        return "AE x width, rounded and kept above the floor, is its width"
    return None
