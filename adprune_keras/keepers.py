"""What a run of `adprune-train` keeps beside its weights, as callbacks; backups ask for their state."""

import time

import keras

from adprune_keras import run
from adprune_keras.callback import end_if_failed
from adprune_keras.density import activation_maps


class Seconds(keras.callbacks.Callback):
    """Wall-clock seconds of the whole `fit`, of all processes that it went on in."""

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self._before, self._begin = 0.0, time.perf_counter()

    def on_train_end(self, logs=None):
        """Stop it."""
        self.total = self.get_state()

    def get_state(self):
        """Return the seconds so far."""
        return self._before + time.perf_counter() - self._begin

    def set_state(self, state):
        """Take over those of the process before."""
        self._before = state


class Dense(keras.callbacks.Callback):
    """Keeps the record of a run that does not prune, and ends it where it fails, as `ADPrune` does.

    Args:
        entry: what `callback.open_entry` returns for the network.
        backup: the `Backup` of the run, or `None`.
    """

    def __init__(self, entry, backup=None):
        super().__init__()
        self.record = [entry]
        self.backup = backup

    def get_state(self):
        """Return the record."""
        return self.record

    def set_state(self, state):
        """Take it back."""
        self.record = state

    def on_epoch_end(self, epoch, logs=None):
        """Record the epoch."""
        run.add_epoch(self.record[-1], logs)
        if end_if_failed(self.model, self.record[-1], logs, epoch + 1) and self.backup:
            self.backup.abandon()

    def on_train_end(self, logs=None):
        """Say how it ended."""
        if self.record[-1]["outcome"] != "failed":
            self.record[-1] |= {"outcome": "final", "reason": "dense: --noprune"}


class Maps(keras.callbacks.Callback):
    """Keeps what the ReLUs of each net put out for one image, from the net's last epoch (Fig. 5).

    Args:
        current: function that returns the entry of the net that trains, as in `ADPrune.record`.
        image: array (1, H, W, C).
    """

    def __init__(self, current, image):
        super().__init__()
        self.current, self.image, self.nets = current, image, {}

    def on_epoch_end(self, epoch, logs=None):
        """Keep those of a net that ends."""
        if self.current()["outcome"] != "training":
            self._keep()

    def on_train_end(self, logs=None):
        """Keep those of the last net."""
        self._keep()

    def get_state(self):
        """Return the maps of all nets so far."""
        return self.nets

    def set_state(self, state):
        """Take them back."""
        self.nets = state

    def _keep(self):
        net, maps = f"net{self.current()['net']}", activation_maps(self.model, self.image)
        self.nets.pop(net, None)  # a net that was gone back to comes last
        self.nets[net] = {"image": self.image.mean(axis=-1)[0]} | {k: v[0] for k, v in maps.items()}
