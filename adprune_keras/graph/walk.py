"""How channels run through a graph: what each kind of layer makes of the channels that it reads.

Every channel that a convolution or Dense layer makes gets an id. A tensor's channels are the ids along
one of its axes; -1 stands for a channel whose width is given (the image's, or past a layer that is
not known here). Layers that need the same channels in two places tie their ids. What a layer's rule
says is enough to cut the layer: which of its settings and which axes of its weights follow which ids.

Beside the ids each channel is `silent` or not: zero wherever the ReLU that speaks for it gives zero.
Where a layer that mixes channels reads one that is not, removing the channel is felt there.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

GIVEN = -1


@dataclass(frozen=True)
class Channels:
    """The channels of one tensor.

    Attributes:
        axis: int, their axis; `None` where the tensor has none that can be followed.
        ids: int array, the id of each channel along the axis, or `None`.
        silent: bool array, see the module's docstring, or `None`.
        upstream: int, the bits of all producers that the tensor depends on.
        depth: int, producers on the longest path to here.
    """

    axis: int | None = None
    ids: np.ndarray | None = None
    silent: np.ndarray | None = None
    upstream: int = 0
    depth: int = 0

    def heard(self):
        """The same channels after something that turns zeros into other values."""
        return replace(self, silent=np.zeros(len(self.ids), bool)) if self.known else self

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
    gate: bool = False  # a factor broadcast over a map: it follows the width of the map


@dataclass(frozen=True)
class Weight:
    """Which ids the axes of one weight follow.

    Attributes:
        axes: `{axis: ids}`; other axes keep their size.
        blocks: int, groups of a grouped convolution: axis -2 holds one of this many equal parts of
            its ids, in turn for each part of axis -1.
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
    """What one pass over a model's calls finds out; `rules.py` says what each call means for it.

    Attributes:
        blocks: list of `Block`; the n-th producer has bit n.
        parent: list, the union-find forest over ids.
        fixed: `{id: reason}`, channels that must stay.
        felt: `{id: reason}`, channels whose removal some layer feels although a ReLU gives zero.
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
        self.blocks, self.parent, self.fixed, self.felt = [], [], {}, {}
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
        """Return the channels of an output that cannot be followed."""
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
        """Say that these channels must stay, and why; the first reason counts."""
        for i in set(ids.tolist()) - {GIVEN} if ids is not None else ():
            self.fixed.setdefault(i, reason)

    def tie(self, ids, others, reason):
        """Make two runs of ids the same channels, one by one."""
        for i, j in zip(ids.tolist(), others.tolist(), strict=True):
            if GIVEN in (i, j):
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

    def feel(self, call, ids, silent):
        """Say that a call reads channels that may not be zero where their ReLU says so."""
        reason = f"{called(call)} reads its channels where no ReLU has the last word"
        for i in ids[~silent].tolist():
            if i != GIVEN:
                self.felt.setdefault(i, reason)

    def weigh(self, call, weight, axes, blocks=1):
        """Say which ids the axes of a weight follow; a layer called again must find them alike."""
        before = self.weights.setdefault((call.name, weight), Weight(axes, blocks))
        for axis, ids in axes.items():
            self._again(call, before.axes[axis], ids)

    def count(self, call, key, ids):
        """Say which ids a setting of a layer counts."""
        self._again(call, self.settings.setdefault(call.name, {}).setdefault(key, ids), ids)

    def _again(self, call, before, ids):
        if before is not ids and not np.array_equal(before, ids):
            self.tie(before, ids, f"{called(call)} is called on other channels too")

    # Layers that make channels.

    def read(self, call, c, axis):
        """Return the ids that a mixing layer reads along `axis`; `GIVEN` where that cannot be said."""
        size = call.inputs[0].shape[axis]
        if not c.known:
            return np.full(size, GIVEN)
        if c.axis != axis:
            self.fix(c.ids, f"{called(call)} {SOMEWHERE_ELSE}")
            return np.full(size, GIVEN)
        self.feel(call, c.ids, c.silent)
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
        self.count(call, key, ids)
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
        return set((np.searchsorted(starts, ids[ids != GIVEN], side="right") - 1).tolist())

    def same(self, x, other):
        """True where two tensors have the same channels in the same order."""
        if not (x.known and other.known and len(x.ids) == len(other.ids)):
            return False
        return all(
            i == j or (GIVEN not in (i, j) and self.root(i) == self.root(j))
            for i, j in zip(x.ids.tolist(), other.ids.tolist(), strict=True)
        )


def called(call):
    """The layer of a call as messages name it."""
    return f"layer '{call.name}' ({type(call.op).__name__})"
