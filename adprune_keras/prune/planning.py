"""What a prune would make of a network, layer by layer; nothing is built."""

from dataclasses import dataclass

import numpy as np

from adprune_keras.counting.count import cost, cost_after
from adprune_keras.counting.counts import Cost
from adprune_keras.graph.cut import densest_cut
from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.walk import FIXED_WIDTH

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
        densities: `{layer name: density of each channel}`, as `activation_density` returns them.
        groups: the model's `Groups`, where they are known already.

    Returns:
        A `Plan`.

    Raises:
        ValueError: as in `ADPrune.plan`, and where no layer may be resized.
    """
    groups = groups or find_groups(model, prune.pruning.shortcuts)
    if not groups.prunable():
        raise ValueError(f"No layer of '{model.name}' may be resized: no ReLU follows one.")
    prune.rule.check(list(groups.widths()))
    inherits = prune.pruning.weights == "inherit"
    before = cost(model, groups)
    widths, _ = prune._next_widths(groups, densities, before)
    after = cost_after(densest_cut(groups, widths, densities, inherits))
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
    return Plan(lines, widths, before, after, inexact if inherits else {})


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
