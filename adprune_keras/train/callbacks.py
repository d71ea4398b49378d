"""What a run of `adprune-train` keeps beside its weights, as callbacks; backups ask for their state."""

import time

import keras

from adprune_keras.density.from_data import activation_maps
from adprune_keras.prune import finite
from adprune_keras.record.entry import add_epoch, epoch_entry, net_entry
from adprune_keras.record.lines import append_record, write_record


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
        add_epoch(self.record[-1], logs)
        if finite.end_if_failed(self.model, self.record[-1], logs, epoch + 1) and self.backup:
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


class Recorder(keras.callbacks.Callback):
    """Adds a line to the record for each net that starts, each epoch, and each net that ends.

    Put it after the callback that keeps `nets`. When training begins, or goes on from a backup, the
    record is written anew from what that holds by then: it is that of just this state.

    Args:
        directory: the run directory.
        header: dict, the record's first line.
        nets: function that returns the entries of all nets so far, as in `ADPrune.record`.
    """

    def __init__(self, directory, header, nets):
        super().__init__()
        self.directory = directory
        self.header = header
        self.nets = nets
        self._written = 0

    def on_train_begin(self, logs=None):
        """Write what there is."""
        nets = self.nets()
        write_record(self.directory, [self.header, *map(net_entry, nets)])
        self._written = len(nets)

    def get_state(self):
        """Nothing: all is in `nets`."""
        return {}

    def set_state(self, state):
        """Write what there is, now that the callbacks before this one know it."""
        self.on_train_begin()

    def on_epoch_begin(self, epoch, logs=None):
        """A net that begins."""
        nets = self.nets()
        for net in nets[self._written :]:
            self._append(net_entry(net))
        self._written = len(nets)

    def on_epoch_end(self, epoch, logs=None):
        """An epoch, or the net that ended with it."""
        net = self.nets()[-1]
        self._append(epoch_entry(net) if net["outcome"] == "training" else net_entry(net))

    def on_train_end(self, logs=None):
        """The last net."""
        self._append(net_entry(self.nets()[-1]))

    def _append(self, entry):
        append_record(self.directory, entry)
