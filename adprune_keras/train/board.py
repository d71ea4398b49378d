"""What TensorBoard shows of a `fit` that prunes."""

import io
import pathlib
from typing import Any

import keras

from adprune_keras.counting.counts import COUNTS
from adprune_keras.files.packages import need


class Board(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback, and beside its curves those of each net.

    Put it after the `ADPrune` that it follows. Keras' part writes the `logs` of every epoch to `train/`
    and `validation/`. To `net0/`, `net1/`, ... go that net's: AE of each layer and reductions (scalars),
    widths and AE over the layers (histograms), and when the net ends the run's figures (images).

    TensorFlow writes the files, on every backend.

    Args:
        log_dir: str or path, what `tensorboard --logdir` is given.
        prune: the `ADPrune` of the same `fit`; anything that has such a `record` will do. It may be set
            later, as the attribute.

    Raises:
        ImportError: TensorBoard or TensorFlow is not installed.

    Example:
    >>> prune = ADPrune()
    >>> model.fit(train, epochs=300, callbacks=[prune, Board("logs", prune)])
    """

    def __init__(self, log_dir: str | pathlib.Path, prune: Any = None) -> None:
        need("TensorBoard", "tensorboard", "tensorflow", "matplotlib")
        # No graph: it would be net0's, whatever trains.
        super().__init__(str(log_dir), write_graph=False)
        self.prune = prune
        self._nets: dict[str, Any] = {}

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch, and the figures where it was its net's last."""
        super().on_epoch_end(epoch, logs)
        net = self.prune.record[-1]
        with self._writer(net).as_default(step=epoch):
            self._write_epoch(net)
            if net["outcome"] != "training":
                self._write_figures()

    def on_train_end(self, logs=None):
        """Write the last net's figures, and close the files."""
        net = self.prune.record[-1]
        with self._writer(net).as_default(step=net["start"] + net["epochs"] - 1):
            self._write_figures()
        for writer in self._nets.values():
            writer.close()
        self._nets.clear()
        super().on_train_end(logs)

    def _writer(self, net):
        name = f"net{net['net']}"
        if name not in self._nets:
            folder = pathlib.Path(self.log_dir) / name
            self._nets[name] = self.summary.create_file_writer(str(folder))
        return self._nets[name]

    def _write_epoch(self, net):
        densities = {layer: series[-1] for layer, series in net["densities"].items()}
        for layer, density in densities.items():
            self.summary.scalar(f"layer_density/{layer}", density)
        for what in ("ops_reduction", "params_reduction"):
            for count in COUNTS if net[what] else ():
                self.summary.scalar(f"{what}/{count}_count", net[what][count])
        self.summary.histogram("widths", list(net["widths"].values()))
        if densities:
            self.summary.histogram("layer_density", list(densities.values()))

    def _write_figures(self):
        import tensorflow as tf

        from adprune_keras.report import figures

        nets = self.prune.record
        drawn = {"figure_2": figures.figure_2(nets)}
        if any(net["densities"] for net in nets):
            drawn["figure_1"] = figures.figure_1(nets)
        for name, figure in drawn.items():
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=100)
            self.summary.image(name, tf.io.decode_png(file.getvalue(), channels=3)[None])
