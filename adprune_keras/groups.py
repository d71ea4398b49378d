"""Which layers of a graph share channels, which ReLU speaks for them, and what ties them together.

The graph is walked once in call order. Every tensor either has a known channel axis, made of
segments that each belong to a channel group, or is opaque: its width is nobody's to change.
A convolution starts a group, per-channel layers pass it on, an Add joins branches. A group that
touches something this module does not know keeps its width; nothing is guessed.
"""

import re
from dataclasses import dataclass, field
from math import prod

import keras
from keras import layers

from adprune_keras.trace import trace

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_POOLINGS = (
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
)
_GLOBAL_POOLINGS = (
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    *(layers.GlobalAveragePooling3D, layers.GlobalMaxPooling1D),
    *(layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
)
_SPATIAL = (
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
)
_ELEMENTWISE = (
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout, layers.GaussianNoise),
    *(layers.GaussianDropout, layers.SpatialDropout1D, layers.SpatialDropout2D),
    *(layers.SpatialDropout3D, layers.Identity),
)
# A projection that `rebuild` inserts; where the branches of an Add tie in depth it is not the owner.
PROJECTION = "_shortcut{}_conv"
_NOT_ELEMENTWISE = {"softmax", "log_softmax", "glu", "sparsemax"}


@dataclass
class Group:
    """Layers whose output channels are one set of channels and so have one width.

    Attributes:
        owner: name of the layer that owns the width: of the convolutions (or Dense layers) in the
            group the one with most convolutions before it. Records and `widths` key on it.
        width: int, channels.
        producers: names of all layers that make these channels. Those beside the owner are
            projections of shortcuts: they follow its width, and the paper does not count them.
        relus: names of the operations whose ReLU output has these channels.
        fixed: `None`, or the reason why the width must stay.
    """

    owner: str
    width: int
    producers: list
    relus: list = field(default_factory=list)
    fixed: str | None = None


@dataclass(frozen=True)
class Place:
    """Where channels are in an operation's output: its name, their axis, and their group's owner."""

    name: str
    axis: int
    owner: str


@dataclass(frozen=True)
class Groups:
    """What `find_groups` found.

    Attributes:
        groups: list of `Group` in graph order.
        relus: list of `Place`, one a ReLU, in graph order, those of fixed groups included. One on
            channels that no group has stands for itself (`owner` is its own name).
        adds: `{name of an Add: Place}` for the Adds whose output has channels of one group. An input
            of another width needs a projection.
        trace: the `Trace` this was found in.
    """

    groups: list
    relus: list
    adds: dict
    trace: object

    def prunable(self):
        """Return the groups that pruning may resize: a ReLU speaks for them, nothing fixes them."""
        return [g for g in self.groups if g.relus and g.fixed is None]

    def shortcuts(self):
        """Return the names of the projections that follow another layer's width."""
        return {p for g in self.groups for p in g.producers if p != g.owner}


def layer_widths(model):
    """Return `{layer name: width}` of every layer that pruning may resize, in graph order.

    For the factories these are the widths of the paper's Table I. A layer is listed when a ReLU
    speaks for its output channels; the layers at the model's outputs never are.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        dict of str to int, channels (units for a Dense layer).

    Raises:
        ValueError: `model` has no graph (subclassed, or Sequential without an input shape).

    Example:
    >>> layer_widths(models.VGG11(widths=[8] * 8))["block1_conv1"]
    8
    """
    return {group.owner: group.width for group in find_groups(model).prunable()}


def find_groups(model):
    """Find the channel groups of a Functional or Sequential model; see `Groups`."""
    return _Walk(trace(model)).result()


def is_relu(op):
    """True where `op`'s output is a ReLU's: zero for everything that is not positive.

    A ReLU may be a layer, the `activation` of any layer, or a raw `keras.ops.relu`.
    """
    if isinstance(op, layers.ReLU):
        return op.negative_slope == 0 and op.threshold >= 0
    if not isinstance(op, layers.Layer):
        return type(op).__name__ in ("Relu", "Relu6")
    return getattr(op, "activation", None) in (
        keras.activations.relu,
        keras.activations.relu6,
    )


@dataclass(frozen=True)
class _Channels:
    """The channel axis of a tensor: its position, and the group of each run of channels."""

    axis: int
    segments: tuple  # of group ids
    depth: int  # convolutions on the longest path to here


class _Walk:
    """One pass over the calls; ids of groups are indices, joined groups share a root."""

    def __init__(self, traced):
        self.trace = traced
        self.consumers = traced.consumers()
        self.makers = {id(t): call for call in traced.calls for t in call.outputs}
        self.channels = {id(t): None for t in traced.inputs}  # None: opaque
        self.parent, self.members, self.fixed, self.relus = [], [], [], []
        self.adds, self.seen_relus = {}, []
        counts = {}
        for call in traced.calls:
            counts[id(call.op)] = counts.get(id(call.op), 0) + 1
        self.shared = {op for op, count in counts.items() if count > 1}
        for call in traced.calls:
            self._visit(call)
        for tensor in traced.outputs:
            self._fix(tensor, "it is an output of the model")

    def result(self):
        groups, index = [], {}
        for i in range(len(self.parent)):
            if self._root(i) == i:
                members = self.members[i]
                owner = max(members, key=lambda m: (m[1], not _is_projection(m[0].name)))
                index[i] = Group(
                    owner=owner[0].name,
                    width=_width(owner[0]),
                    producers=[op.name for op, _ in members],
                    relus=self.relus[i],
                    fixed=self.fixed[i],
                )
                groups.append(index[i])
        order = {call.op.name: n for n, call in enumerate(self.trace.calls)}
        groups.sort(key=lambda g: order[g.owner])
        relus = [
            Place(name, axis, name if i is None else index[self._root(i)].owner)
            for name, axis, i in self.seen_relus
        ]
        adds = {
            name: Place(name, out.axis, index[self._root(out.segments[0])].owner)
            for name, out in self.adds.items()
        }
        return Groups(groups, relus, adds, self.trace)

    def _visit(self, call):
        op, tensor = call.op, call.inputs[0] if call.inputs else None
        incoming = self.channels.get(id(tensor))
        if id(op) in self.shared:
            self._stop(call, "is called more than once")
        elif isinstance(op, _CONVOLUTIONS) and not isinstance(op, layers.DepthwiseConv2D):
            axis = 1 if op.data_format == "channels_first" else len(tensor.shape) - 1
            if op.groups != 1:
                self._stop(call, "is a grouped convolution")
            elif incoming is not None and incoming.axis != axis:
                self._stop(call, "reads the channels along another axis")
            else:
                self._produce(call, axis, incoming)
        elif isinstance(op, layers.Dense):
            axis = len(tensor.shape) - 1
            if incoming is not None and incoming.axis != axis:
                self._stop(call, "reads the channels along another axis")
            else:
                self._produce(call, axis, incoming)
        elif incoming is None and not isinstance(op, layers.Add):
            self._set(call, None)
        elif isinstance(op, layers.Add):
            self._add(call)
        elif isinstance(op, _GLOBAL_POOLINGS):
            axis = incoming.axis if op.keepdims else 1
            self._set(call, _Channels(axis, incoming.segments, incoming.depth))
        elif self._is_per_channel(op, incoming):
            self._set(call, incoming)
        elif isinstance(op, layers.Flatten) and incoming.axis == len(tensor.shape) - 1:
            places = prod(tensor.shape[1:-1]) if None not in tensor.shape[1:] else 0
            if places:
                segments = incoming.segments * places
                self._set(call, _Channels(1, segments, incoming.depth))
            else:
                self._stop(call, "flattens a map of unknown size")
        else:
            self._stop(call, "is not a layer whose channels pruning can follow")
        if is_relu(op):
            self._speak(call)

    def _is_per_channel(self, op, incoming):
        if isinstance(op, layers.BatchNormalization):
            axis = op.axis if op.axis >= 0 else incoming.axis + 1 + op.axis
            return axis == incoming.axis
        if isinstance(op, layers.Activation):
            return getattr(op.activation, "__name__", "softmax") not in _NOT_ELEMENTWISE
        if isinstance(op, _POOLINGS + _SPATIAL):
            first = getattr(op, "data_format", "channels_last") == "channels_first"
            return (incoming.axis == 1) == first
        return isinstance(op, _ELEMENTWISE) or (not isinstance(op, layers.Layer) and is_relu(op))

    def _produce(self, call, axis, incoming):
        depth = (incoming.depth if incoming else 0) + 1
        self.parent.append(len(self.parent))
        self.members.append([(call.op, depth)])
        self.fixed.append(None)
        self.relus.append([])
        self._set(call, _Channels(axis, (len(self.parent) - 1,), depth))

    def _add(self, call):
        """Join the branches that end here; what others read too keeps a width of its own."""
        known = [self.channels[id(t)] for t in call.inputs]
        if any(c is not None and len(c.segments) > 1 for c in known):
            return self._stop(call, "adds tensors of several channel groups")
        ends = [self._ends_at(t) for t in call.inputs]
        branches = [c for c, end in zip(known, ends, strict=True) if end and c is not None]
        if not branches:
            # Every input is read elsewhere as well: one width for all of them.
            if any(c is None for c in known):
                return self._stop(call, "adds a tensor whose width is given")
            branches = known
        if not branches:
            return self._set(call, None)
        for other in branches[1:]:
            self._join(branches[0].segments[0], other.segments[0])
        depth = max(c.depth for c in known if c is not None)
        out = _Channels(branches[0].axis, branches[0].segments, depth)
        self._set(call, out)
        self.adds[call.op.name] = out
        return None

    def _ends_at(self, tensor):
        """True where nothing but one Add reads the branch that `tensor` ends."""
        while len(self.consumers.get(id(tensor), ())) == 1:
            call = self.makers.get(id(tensor))
            if call is None or self.channels[id(tensor)] is None or id(call.op) in self.shared:
                return False
            if isinstance(call.op, (layers.Add, layers.Dense, *_CONVOLUTIONS)):
                return True
            tensor = call.inputs[0]
        return False

    def _speak(self, call):
        channels = self.channels[id(call.outputs[0])]
        if channels is None or len(channels.segments) > 1:
            axis = len(call.outputs[0].shape) - 1 if channels is None else channels.axis
            self.seen_relus.append((call.op.name, axis, None))
            return
        root = self._root(channels.segments[0])
        self.relus[root].append(call.op.name)
        self.seen_relus.append((call.op.name, channels.axis, root))

    def _stop(self, call, reason):
        for tensor in call.inputs:
            self._fix(tensor, f"layer '{call.op.name}' ({type(call.op).__name__}) {reason}")
        self._set(call, None)

    def _fix(self, tensor, reason):
        channels = self.channels.get(id(tensor))
        for i in set(channels.segments) if channels else ():
            root = self._root(i)
            self.fixed[root] = self.fixed[root] or reason

    def _set(self, call, channels):
        for tensor in call.outputs:
            self.channels[id(tensor)] = channels

    def _root(self, i):
        while self.parent[i] != i:
            i = self.parent[i]
        return i

    def _join(self, i, j):
        i, j = sorted((self._root(i), self._root(j)))
        if i == j:
            return
        self.parent[j] = i
        self.members[i] += self.members[j]
        self.relus[i] += self.relus[j]
        self.fixed[i] = self.fixed[i] or self.fixed[j]


def _is_projection(name):
    return re.fullmatch(".*" + PROJECTION.format(r"\d*"), name) is not None


def _width(op):
    return op.units if isinstance(op, layers.Dense) else op.filters
