"""Writes a run's record while it trains, so that a run that is killed leaves all that it knew."""

import keras

from adprune_keras import run


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
        run.write_record(self.directory, [self.header, *map(run.net_entry, nets)])
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
            self._append(run.net_entry(net))
        self._written = len(nets)

    def on_epoch_end(self, epoch, logs=None):
        """An epoch, or the net that ended with it."""
        net = self.nets()[-1]
        self._append(run.epoch_entry(net) if net["outcome"] == "training" else run.net_entry(net))

    def on_train_end(self, logs=None):
        """The last net."""
        self._append(run.net_entry(self.nets()[-1]))

    def _append(self, entry):
        run.append_record(self.directory, entry)
