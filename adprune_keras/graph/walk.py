"""How channels run through a graph: what each kind of layer makes of the channels that it reads.

Every channel that a convolution or Dense layer makes gets an id. A tensor's channels are the ids along
one of its axes. `FIXED_WIDTH` stands for a channel that cannot be removed: one of the image's, or one
behind a layer that is not known here. Layers that need the same channels in two places tie their ids.
The rules bind settings and weights of layers to ids: that is enough to cut a layer.

A channel is `zero_when_removed` where it is zero wherever its ReLU gives zero. Removing such a channel
changes nothing but what the ReLU lets through. A layer that mixes channels may read one that is not:
then its group is inexact, as removing the channel also takes away what the layer read there.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

FIXED_WIDTH = -1  # the id of every channel that cannot be removed


@dataclass(frozen=True)
class Channels:
    """The channels of one tensor.

    Attributes:
        axis: int, their axis; `None` where the tensor has none that can be followed.
        ids: int array, the id of each channel along the axis, or `None`.
        zero_when_removed: bool array, see the module's docstring, or `None`.
        upstream: int, the bits of all producers that the tensor depends on.
        depth: int, producers on the longest path to here.
    """

    axis: int | None = None
    ids: np.ndarray | None = None
    zero_when_removed: np.ndarray | None = None
    upstream: int = 0
    depth: int = 0

    def not_zero_when_removed(self):
        """Return the same channels behind a layer that turns zeros into other values."""
        return replace(self, zero_when_removed=np.zeros(len(self.ids), bool)) if self.known else self

    @property
    def known(self):
        """True where the tensor has channels that can be followed."""
        return self.axis is not None


@dataclass
class Block:
    """The channels that one layer makes: ids `start` to `start + width`."""

    name: str
    start: int
    width: int
    depth: int
    gate: bool = False  # a factor broadcast over a map, which has the width of the map


@dataclass(frozen=True)
class Weight:
    """Which ids the axes of one weight are bound to.

    Attributes:
        axes: `{axis: ids}`; other axes keep their size.
        blocks: int, groups of a grouped convolution. Axis -1 has this many equal parts. For each of
            them axis -2 holds one equal part of its ids.
    """

    axes: dict
    blocks: int = 1


@dataclass(frozen=True)
class Sum:
    """An Add with shortcuts x + f(x), which a projection joins where the two ends differ.

    Attributes:
        axis: int, the channels' axis.
        out: ids of the output.
        inputs: for each input its ids where it is such a shortcut, else `None`.
    """

    axis: int
    out: np.ndarray
    inputs: tuple


SOMEWHERE_ELSE = "reads the channels along another axis"


class Walk:
    """What one pass over a model's calls finds out; the rules say what each call means for it.

    Attributes:
        blocks: list of `Block`; the n-th producer has bit n.
        parent: list, the union-find forest over ids.
        fixed: `{id: reason}`, channels that must stay.
        inexact: `{id: reason}`, channels that some layer reads where they are not `zero_when_removed`.
        parts: list of (ids, count, reason): ids of which equal parts must stay alike in number.
        relus: list of (index of the call, `Channels` of its output).
        sums: `{call name: Sum}`.
        weights: `{(call name, weight name): Weight}`.
        settings: `{call name: {key of its config, or (key, index): ids whose number it is}}`.
        shared: names of operations that are called more than once.
        at: `{id(tensor): Channels}`.
    """

    def __init__(self, trace, shortcuts):
        self.project = shortcuts == "project"
        self.blocks, self.parent, self.fixed, self.inexact = [], [], {}, {}
        self.parts, self.relus, self.sums, self.weights, self.settings = [], [], {}, {}, {}
        self.at = {id(t): Channels() for t in trace.inputs}
        self._made, self._joined, self._joined_parent = {}, [], []  # of blocks, tied ones together
        names = [call.name for call in trace.calls]
        self.shared = {name for name, count in Counter(names).items() if count > 1}

    def root(self, i):
        """Return the id that stands for all that `i` is tied to."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def opaque(self, call):
        """Return the channels of an output whose channels cannot be followed."""
        inputs = [self.at[id(t)] for t in call.inputs]
        upstream = 0
        for c in inputs:
            upstream |= c.upstream
        return Channels(upstream=upstream, depth=max((c.depth for c in inputs), default=0))

    def stop(self, call, reason):
        """Fix whatever goes into a call; its output cannot be followed."""
        for tensor in call.inputs:
            self.fix(self.at[id(tensor)].ids, f"{called(call)} {reason}")
        return self.opaque(call)

    def fix(self, ids, reason):
        """Note that these channels must stay, and why; the first reason counts."""
        for i in set(ids.tolist()) - {FIXED_WIDTH} if ids is not None else ():
            self.fixed.setdefault(i, reason)

    def tie(self, ids, others, reason):
        """Make two runs of ids the same channels, one by one."""
        for i, j in zip(ids.tolist(), others.tolist(), strict=True):
            if FIXED_WIDTH in (i, j):
                self.fix(np.array([i, j]), reason)
            else:
                low, high = sorted((self.root(i), self.root(j)))
                self.parent[high] = low
        blocks = [self._joined_root(b) for b in self.blocks_of(ids) | self.blocks_of(others)]
        for b in blocks[1:]:
            if b != blocks[0]:
                self._joined_parent[b] = blocks[0]
                self._joined[blocks[0]] |= self._joined[b]

    def _joined_root(self, block):
        while self._joined_parent[block] != block:
            block = self._joined_parent[block]
        return block

    def mark_inexact(self, call, ids, zero_when_removed):
        """Note that a call reads channels, some of which are not zero where their ReLU is."""
        reason = f"{called(call)} reads its channels where no ReLU has the last word"
        for i in ids[~zero_when_removed].tolist():
            if i != FIXED_WIDTH:
                self.inexact.setdefault(i, reason)

    def bind_weight(self, call, weight, axes, blocks=1):
        """Bind the axes of a weight to ids; a layer that is called again ties them to the new ones."""
        before = self.weights.setdefault((call.name, weight), Weight(axes, blocks))
        for axis, ids in axes.items():
            self._again(call, before.axes[axis], ids)

    def bind_setting(self, call, key, ids):
        """Bind a setting of a layer to the ids whose number it is."""
        self._again(call, self.settings.setdefault(call.name, {}).setdefault(key, ids), ids)

    def _again(self, call, before, ids):
        if before is not ids and not np.array_equal(before, ids):
            self.tie(before, ids, f"{called(call)} is called on other channels too")

    # Layers that make channels.

    def read(self, call, c, axis):
        """Return the ids that a mixing layer reads along `axis`; `FIXED_WIDTH` where none are known."""
        size = call.inputs[0].shape[axis]
        if not c.known:
            return np.full(size, FIXED_WIDTH)
        if c.axis != axis:
            self.fix(c.ids, f"{called(call)} {SOMEWHERE_ELSE}")
            return np.full(size, FIXED_WIDTH)
        self.mark_inexact(call, c.ids, c.zero_when_removed)
        return c.ids

    def make(self, call, c, axis, width, key):
        """Return a new block of channels (the same one where a layer is called again)."""
        block = self._made.get(call.name)
        if block is None:
            block = Block(call.name, len(self.parent), width, c.depth + 1)
            self._made[call.name] = block
            self._joined.append(1 << len(self.blocks))
            self._joined_parent.append(len(self.blocks))
            self.blocks.append(block)
            self.parent.extend(range(block.start, block.start + width))
        block.depth = max(block.depth, c.depth + 1)
        ids = np.arange(block.start, block.start + width)
        self.bind_setting(call, key, ids)
        bit = 1 << self.blocks.index(block)
        return Channels(axis, ids, np.zeros(width, bool), c.upstream | bit, block.depth)

    def is_shortcut(self, x, others):
        """True where another input of an Add is computed from these channels: x + f(x)."""
        own = 0
        for block in self.blocks_of(x.ids):
            own |= self._joined[self._joined_root(block)]
        return any(own & o.upstream and not self.same(o, x) for o in others if o is not x)

    def blocks_of(self, ids):
        """Return the indices of the blocks that have a channel among `ids`."""
        starts = [block.start for block in self.blocks]
        return set((np.searchsorted(starts, ids[ids != FIXED_WIDTH], side="right") - 1).tolist())

    def same(self, x, other):
        """True where two tensors have the same channels in the same order."""
        if not (x.known and other.known and len(x.ids) == len(other.ids)):
            return False
        return all(
            i == j or (FIXED_WIDTH not in (i, j) and self.root(i) == self.root(j))
            for i, j in zip(x.ids.tolist(), other.ids.tolist(), strict=True)
        )


def called(call):
    """The layer of a call as messages name it."""
    return f"layer '{call.name}' ({type(call.op).__name__})"
