"""Activation densities as numbers: which sums belong to which ReLU, and the densities they give."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """One ReLU's place in the density vector.

    Attributes:
        relu: name of the operation.
        channels: int, how many its output has.
        owners: `{layer name: (places along the axis, index of the layer's channel at each, the layer's
            width)}`; a ReLU on channels that no layer owns stands under its own name.
        stride: int; every `stride`-th place (H, W) is counted.
    """

    relu: str
    channels: int
    owners: dict
    stride: int = 1


@dataclass(frozen=True)
class Density:
    """Densities of a whole network, over any number of batches.

    Attributes:
        channels: `{layer name: density of each channel, float array of shape (C,)}`. Keys are those
            of `layer_widths`; a ReLU on channels that no layer owns stands under its own name.
        total: float, total AE: all positives over all activations of the network.
    """

    channels: dict
    total: float

    @property
    def layers(self):
        """`{layer name: AE}`: the mean over the layer's channels."""
        return {name: float(np.mean(d)) for name, d in self.channels.items()}


def merge(parts, sums):
    """Turn accumulated sums into densities.

    Args:
        parts: list of `Part`.
        sums: float array (sum of C + 1 over the parts,): for each part the sums over batches of
            each channel's positives, then of the places.

    Returns:
        A `Density`. Channels that several ReLUs see get the mean over all that they saw.
    """
    positives, places, at = {}, {}, 0
    all_positives = all_places = 0.0
    for part in parts:
        entry = np.asarray(sums[at : at + part.channels + 1], dtype=np.float64)
        at += part.channels + 1
        entry *= part.stride  # what all places would have counted
        all_positives += entry[:-1].sum()
        all_places += entry[-1] * part.channels
        for owner, (seen, channel, width) in part.owners.items():
            np.add.at(positives.setdefault(owner, np.zeros(width)), channel, entry[seen])
            np.add.at(places.setdefault(owner, np.zeros(width)), channel, entry[-1])
    with np.errstate(invalid="ignore"):  # no batch yet: 0 / 0 is NaN, and says so
        channels = {owner: positives[owner] / places[owner] for owner in positives}
        return Density(channels, float(np.divide(all_positives, all_places)))
