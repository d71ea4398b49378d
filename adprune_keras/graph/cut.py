"""A cut of a network: the new size of each axis, and the channels that stay."""

import operator

import numpy as np

from adprune_keras.graph.walk import FIXED_WIDTH


class Cut:
    """New widths for the groups of a network, and the channels that stay where weights are inherited.

    Args:
        groups: `Groups` of the network.
        widths: `{layer name: width}`, ints; layers left out keep their width.
        kept: `{layer name: sorted indices of the channels that stay}` or `None` where new weights are
            drawn, so that only the number counts.

    Raises:
        ValueError: unknown or fixed layer, or a width that the layer cannot have.
    """

    def __init__(self, groups, widths, kept=None):
        self.groups = groups
        self.widths = _check(groups, widths)
        self._stays = None
        if kept is not None:
            self._stays = np.ones(sum(g.width for g in groups.groups) + 1, bool)  # the last: FIXED_WIDTH
            for group in groups.groups:
                if group.owner in kept:
                    stays = np.isin(np.arange(group.width), kept[group.owner])
                    self._stays[group.start : group.start + group.width] = stays

    @property
    def inherits(self):
        """True where it is known which channels stay."""
        return self._stays is not None

    def size(self, channels):
        """Return how many there will be of these channels (numbers, those of fixed width included)."""
        own = channels[channels != FIXED_WIDTH]
        size = len(channels) - len(own)
        counts = np.bincount(self.groups.of(own)) if len(own) else ()
        for group, count in zip(self.groups.groups, counts, strict=False):
            size += int(count) * self.widths[group.owner] // group.width
        return size

    def positions(self, channels):
        """Return the places along these channels' axis that stay, ascending."""
        return np.flatnonzero(self._stays[channels])

    def differs(self, one, other):
        """True where two runs of channels that were added can be added no longer."""
        if self.inherits:
            return not np.array_equal(self.positions(one), self.positions(other))
        return self.size(one) != self.size(other)

    def shape(self, layer, weight):
        """Return the new shape of a layer's weight (a `keras.Variable`)."""
        shape = list(weight.shape)
        rule = self.groups.weights.get((layer, weight.name))
        for axis, channels in rule.axes.items() if rule else ():
            shape[axis] = self.size(channels)
            if axis == -2:
                shape[axis] //= rule.blocks
        return tuple(shape)

    def take(self, layer, name, array):
        """Return what stays of a weight, or of anything of the weight's shape, as a NumPy array."""
        rule = self.groups.weights.get((layer, name))
        if rule is None:
            return array
        if rule.blocks == 1:
            for axis, channels in rule.axes.items():
                array = np.take(array, self.positions(channels), axis)
            return array
        inputs, outputs = (
            np.split(self._stays[rule.axes[axis]], rule.blocks) for axis in (-2, -1)
        )  # which stay in each group of the convolution
        columns = np.split(array, rule.blocks, axis=-1)
        return np.concatenate(
            [c[..., i, :][..., o] for c, i, o in zip(columns, inputs, outputs, strict=True)], axis=-1
        )


def densest_cut(groups, widths, densities, inherits=True):
    """Return the `Cut` that a prune makes, whose densest channels stay.

    Args:
        groups: `Groups` of the network.
        widths: `{layer name: new width}`.
        densities: `{layer name: density of each channel, or one number}`; others' are ignored.
        inherits: bool, whether weights are inherited; else only the number of channels counts.
    """
    kept = None
    if inherits:
        sizes = {g.owner: g.width for g in groups.groups}
        channels = {n: np.broadcast_to(d, sizes[n]) for n, d in densities.items() if n in sizes}
        kept = choose(groups, widths, channels)
    return Cut(groups, widths, kept)


def choose(groups, widths, densities=None, seed=None):
    """Choose the channels that stay: the densest, or without densities at random.

    Args:
        groups: `Groups` of the network.
        widths: `{layer name: new width}`.
        densities: `{layer name: number for each channel, shape (C,)}`: the highest stay, of equals the
            first. `None` (default) chooses at random (section III of the paper).
        seed: int or `None`, for the random choice.

    Returns:
        `{layer name: sorted indices}` of the layers that become narrower.

    Raises:
        ValueError: a width above the current one, or densities that do not fit.
    """
    rng, kept = np.random.default_rng(seed), {}
    for group in groups.groups:
        width = widths.get(group.owner, group.width)
        if width > group.width:
            raise ValueError(
                f"Layer '{group.owner}' has {group.width} channels to inherit. Received: width "
                f'{width}. Use weights="random" to make it wider.'
            )
        if width == group.width:
            continue
        if densities is None:
            scores = rng.permutation(group.width)
        else:
            scores = np.asarray(densities.get(group.owner, ()), dtype=float)
            if scores.shape != (group.width,) or not np.isfinite(scores).all():
                raise ValueError(
                    f"`densities` must hold {group.width} finite numbers for layer '{group.owner}'. "
                    f"Received: {densities.get(group.owner)!r}"
                )
        parts = np.argsort(-scores.reshape(group.parts, -1), axis=1, kind="stable")
        offsets = np.arange(group.parts)[:, None] * (group.width // group.parts)
        kept[group.owner] = np.sort((parts[:, : width // group.parts] + offsets).ravel())
    return kept


def _check(groups, widths):
    """`{owner: new width}` of every group; errors name the layer."""
    by_owner = {g.owner: g for g in groups.groups}
    targets = {g.owner: g.width for g in groups.groups}
    for name, width in dict(widths).items():
        if name not in by_owner:
            raise ValueError(
                f"`widths` names '{name}', which is not a layer that owns a width. "
                f"Expected names among {list(by_owner)}."
            )
        group = by_owner[name]
        targets[name] = check_width(name, width)
        if group.fixed and width != group.width:
            raise ValueError(
                f"Layer '{name}' must keep its width of {group.width}: {group.fixed}. "
                f"Received: width {width}"
            )
        if width % group.parts:
            raise ValueError(
                f"The width of layer '{name}' must be a multiple of {group.parts}, because a grouped "
                f"layer divides its channels. Received: width {width}"
            )
    return targets


def check_width(name, width):
    """Return `width` as a positive int, or raise `ValueError` naming the layer."""
    try:
        if isinstance(width, bool):
            raise TypeError
        value = operator.index(width)
    except TypeError:
        value = 0
    if value < 1:
        raise ValueError(
            f"The width of layer '{name}' must be an int of at least 1. Received: {width!r}"
        )
    return value
