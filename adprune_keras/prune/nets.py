"""The nets of one `fit`: the one that trains, and the one that a rollback goes back to."""

from adprune_keras.graph.groups import find_groups
from adprune_keras.graph.rebuild import rebuild
from adprune_keras.live.exchange import Net, current_net, swap
from adprune_keras.live.keras_private import scope
from adprune_keras.live.meter import Meter
from adprune_keras.live.optimizer import optimizer_recipe


class Nets:
    """A model that trains, measured, and changed from one net to the next in place.

    Args:
        model: compiled `keras.Model`.
        pruning: `Pruning`.
        rollback: bool, whether the net before is kept for a rollback.
        seed: int or `None`, as in `ADPrune`.

    Attributes:
        groups: `Groups` of the current net.
        meter: `Meter` of the current net.
        previous: `exchange.Net` that a rollback would go back to, or `None`.
    """

    def __init__(self, model, pruning, rollback, seed):
        self.model = model
        self._pruning, self._rollback, self._seed = pruning, rollback, seed
        self._find()
        self._new_optimizer = optimizer_recipe(model.optimizer)
        self.previous = None

    def shrink(self, widths, kept, number):
        """Put the next net of net `number` in its place.

        Args:
            widths: `{layer name: new width}`.
            kept: `{layer name: sorted indices}` of the channels that stay; `None` with random weights.
            number: int, index of the current net.
        """
        seed = None if self._seed is None else self._seed + number + 1
        with scope(self.model):
            new = rebuild(self.model, self.groups, widths, self._pruning.weights, seed=seed, kept=kept)
            net = Net(new.model, self._new_optimizer())
        self._swap(net, self._rollback, new.origins)

    def go_back(self):
        """Put the net before back, with its weights and its optimizer."""
        self._swap(self.previous, keep=False)

    def forget(self):
        """Let the net before go: no rollback follows any more."""
        self.previous = None

    def _swap(self, net, keep, origins=()):
        self.meter.detach()
        self.previous = current_net(self.model) if keep else None
        swap(self.model, net, origins)
        self._find()
        self.meter.attach()

    def _find(self):
        self.groups = find_groups(self.model, self._pruning.shortcuts)
        self.meter = Meter(self.model, self.groups, self._pruning.sample_places)
