"""Which layers of a graph share channels, which ReLU follows them, and what ties them together.

`follow` follows every channel through the graph. Here the channels that the same layers make become a
group. A group is one set of channels, so it has one width. A group that touches something unknown
keeps its width, and says why; nothing is guessed.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from math import lcm

import keras
import numpy as np

from adprune_keras.graph.choices import SHORTCUTS, Shortcuts
from adprune_keras.graph.follow import follow
from adprune_keras.graph.trace import Trace, trace
from adprune_keras.graph.walk import FIXED_WIDTH

# A projection that `rebuild` inserts; where the branches of an Add tie in depth it is not the owner.
PROJECTION = "_shortcut{}_conv"


@dataclass
class Group:
    """Layers whose output channels are one set of channels and so have one width.

    Attributes:
        owner: name of the layer that owns the width: of those that make just these channels the one
            with most convolutions before it, the gate of a squeeze-and-excite coming last. Records
            and `widths` key on it; inside a nested model it is `"model/layer"`.
        width: int, channels.
        producers: names of all layers that make these channels. Those beside the owner follow it.
        relus: names of the operations whose ReLU output has these channels.
        fixed: `None`, or the reason why the width must stay.
        inexact: `None`, or the reason why inherited weights are not exact: a layer reads the channels
            where they are not zero although their ReLU gives zero.
        parts: int, equal parts that the channels keep (a grouped convolution, GroupNormalization): the
            width is a multiple of it.
        start: int, number of the first channel: those of a group are numbered in a row.
    """

    owner: str
    width: int
    producers: list
    relus: list = field(default_factory=list)
    fixed: str | None = None
    inexact: str | None = None
    parts: int = 1
    start: int = 0


@dataclass(frozen=True)
class Place:
    """A ReLU's output: its name, the index of its call, and the number of each channel on an axis."""

    name: str
    call: int
    axis: int
    channels: np.ndarray | None


@dataclass(frozen=True)
class Groups:
    """What `find_groups` found. Channels have numbers; `Group.start` tells whose they are.

    Attributes:
        groups: list of `Group` in graph order.
        relus: list of `Place`, one a ReLU call, in graph order, those of fixed groups included.
        sums: `{name of an Add: walk.Sum}` for those with shortcuts that may need a projection.
        weights: `{(layer name, weight name): walk.Weight}`.
        settings: `{layer name: {key of its config: channels whose number the setting is}}`.
        channels: `{id(tensor): channels of the tensor}` in the trace, where they can be followed.
        inputs: `{name of a nested model: (axis, channels) or `None` of each of its inputs}`.
        trace: the `Trace` this was found in.
        shortcuts: `"project"` or `"couple"`, how shortcuts were read.
    """

    groups: list
    relus: list
    sums: dict
    weights: dict
    settings: dict
    channels: dict
    inputs: dict
    trace: Trace
    shortcuts: str

    def prunable(self):
        """Return the groups that pruning may resize: a ReLU follows them, and nothing fixes them."""
        return [g for g in self.groups if g.relus and g.fixed is None]

    def widths(self):
        """Return `{layer name: width}` of the groups that pruning may resize."""
        return {g.owner: g.width for g in self.prunable()}

    @cached_property
    def paper_owners(self):
        """Names of the layers that own a width where shortcuts are projected: the paper's reading.

        Layers that must keep their width are included. Coupled groups follow the channels once more
        for it. They do so through the trace that they have, as tracing is what takes time.
        """
        if self.shortcuts == "project":
            return {g.owner for g in self.groups}
        return {g.owner for g in _group(follow(self.trace, "project"), self.trace)[0]}

    def of(self, channels):
        """Return the group's index for each channel number; no meaning for `FIXED_WIDTH`."""
        starts = [g.start for g in self.groups]
        return np.searchsorted(starts, channels, side="right") - 1


def layer_widths(model: keras.Model, shortcuts: Shortcuts = "project") -> dict[str, int]:
    """Return `{layer name: width}` of every layer that pruning may resize, in graph order.

    For the factories these are the widths of the paper's Table I. A layer is listed when a ReLU
    follows its output channels. The layers at the model's outputs never are.

    Args:
        model: Functional or built Sequential `keras.Model`.
        shortcuts: `"project"` (default, the paper's): the two ends of a shortcut x + f(x) have
            widths of their own; `"couple"`: all that an Add ties together has one width.

    Returns:
        dict of str to int, channels (units for a Dense layer). A layer inside a nested model is named
        `"model/layer"`.

    Raises:
        ValueError: `model` has no graph (subclassed, or Sequential without an input shape).

    Example:
    >>> layer_widths(models.VGG11(widths=[8] * 8))["block1_conv1"]
    8
    """
    return find_groups(model, shortcuts).widths()


def find_groups(model, shortcuts="project"):
    """Find the channel groups of a Functional or Sequential model; see `Groups`."""
    if shortcuts not in SHORTCUTS:
        raise ValueError(f"`shortcuts` must be one of {SHORTCUTS}. Received: shortcuts={shortcuts!r}")
    traced = trace(model)
    walk = follow(traced, shortcuts)
    groups, number = _group(walk, traced)

    def numbers(ids):
        return ids if ids is None else number[ids]

    relus = []
    for index, c in walk.relus:
        call = traced.calls[index]
        axis = c.axis if c.known else len(call.outputs[0].shape) - 1
        relus.append(Place(call.name, index, axis, numbers(c.ids)))
    found = Groups(
        groups,
        relus,
        {
            name: type(s)(s.axis, numbers(s.out), tuple(numbers(x) for x in s.inputs))
            for name, s in walk.sums.items()
        },
        {
            key: type(w)({axis: numbers(ids) for axis, ids in w.axes.items()}, w.blocks)
            for key, w in walk.weights.items()
        },
        {name: {k: numbers(ids) for k, ids in s.items()} for name, s in walk.settings.items()},
        {tensor: numbers(c.ids) for tensor, c in walk.at.items() if c.known},
        {
            name: [
                (c.axis, numbers(c.ids)) if c.known else None for c in (walk.at[id(t)] for t in tensors)
            ]
            for name, tensors in traced.nested.items()
        },
        traced,
        shortcuts,
    )
    _describe(found, walk, number)
    return found


def _group(walk, traced):
    """Put the channels that the same layers make into groups, and number them group by group."""
    order = {call.name: i for i, call in enumerate(traced.calls)}
    roots = np.array([walk.root(i) for i in range(len(walk.parent))], int)
    makers = defaultdict(list)  # root -> the blocks that make this channel
    for n, block in enumerate(walk.blocks):
        for root in roots[block.start : block.start + block.width].tolist():
            makers[root].append(n)
    sets = defaultdict(list)  # the blocks -> roots, in order
    for root, blocks in makers.items():
        sets[tuple(blocks)].append(root)
    found = []
    for blocks, members in sets.items():
        inside = set(members)
        candidates = [walk.blocks[n] for n in set(blocks)]
        whole = (
            [b for b in candidates if b.width == len(members)] if len(set(blocks)) == len(blocks) else []
        )
        owner = max(whole or candidates, key=lambda b: (not b.gate, b.depth, not _is_projection(b.name)))
        mine = roots[owner.start : owner.start + owner.width]
        here = [r for r in dict.fromkeys(mine.tolist()) if r in inside]
        group = Group(owner.name, len(members), [walk.blocks[n].name for n in dict.fromkeys(blocks)])
        if not whole:
            group.owner = f"{owner.name}[{mine.tolist().index(here[0])}:]"
            group.fixed = f"its channels are tied to some of '{', '.join(group.producers)}' only"
        found.append((order[owner.name], owner.start, group, here))
    found.sort(key=lambda f: f[:2])
    place, start = {}, 0
    for *_, group, members in found:
        group.start = start
        place.update({root: start + k for k, root in enumerate(members)})
        start += group.width
    number = [place[root] for root in roots.tolist()]
    return [group for *_, group, _ in found], np.array(
        [*number, FIXED_WIDTH]
    )  # number[FIXED_WIDTH] is FIXED_WIDTH


def _describe(found, walk, number):
    """Enter into each group its ReLUs, why it must stay, why it is inexact, and its equal parts."""

    def groups_of(ids):
        kept = ids[ids != FIXED_WIDTH] if ids is not None else np.array([], int)
        return [found.groups[n] for n in np.unique(found.of(number[kept]))] if len(kept) else []

    for (_, c), place in zip(walk.relus, found.relus, strict=True):
        for group in groups_of(c.ids):
            group.relus.append(place.name)
    for what, reasons in (("fixed", walk.fixed), ("inexact", walk.inexact)):
        touched, first = np.unique(found.of(number[list(reasons)]), return_index=True)
        for n, at in zip(touched, first, strict=True):
            setattr(found.groups[n], what, list(reasons.values())[at])
    for ids, parts, layer in walk.parts:
        groups = groups_of(ids)
        if not groups:
            continue
        group = groups[0]
        together = lcm(group.parts, parts)
        in_order = np.array_equal(number[ids] - group.start, np.arange(group.width))
        if len(groups) == 1 and in_order and group.width % together == 0:
            group.parts = together
            if together == group.width:
                group.fixed = group.fixed or f"{layer} has a part for each of its channels"
        else:
            for group in groups:
                group.fixed = group.fixed or f"{layer} divides its channels into {parts} parts"


def _is_projection(name):
    return re.fullmatch(".*" + PROJECTION.format(r"\d*"), name) is not None
