import importlib.util

import keras
import numpy as np
import pytest
from toys import compiled, images, plain_cnn

from adprune_keras import ADPrune, WidthRule
from adprune_keras.train.board import Board


def test_what_tensorboard_shows(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prune = ADPrune(schedule=[2], rule=WidthRule(min_width=2), verbose=0)
    history = compiled(plain_cnn()).fit(
        *images(40),
        batch_size=16,
        epochs=3,
        verbose=0,
        validation_data=images(20, seed=1),
        callbacks=[prune, Board(tmp_path, prune)],
    )

    def read(folder):
        return EventAccumulator(str(tmp_path / folder), size_guidance={"tensors": 0}).Reload()

    def series(folder, tag):
        import tensorflow as tf

        events = read(folder).Tensors(tag)
        return [e.step for e in events], [tf.make_ndarray(e.tensor_proto) for e in events]

    steps, values = series("train", "epoch_activation_density")
    assert steps == [0, 1, 2]
    np.testing.assert_allclose(values, history.history["activation_density"], rtol=1e-6)
    np.testing.assert_allclose(
        series("validation", "epoch_accuracy")[1], history.history["val_accuracy"], rtol=1e-6
    )
    for folder, net, epochs in (("net0", prune.record[0], [0, 1]), ("net1", prune.record[1], [2])):
        steps, values = series(folder, "layer_density/conv1")
        assert steps == epochs
        np.testing.assert_allclose(values, net["densities"]["conv1"], rtol=1e-6)
        steps, values = series(folder, "ops_reduction/paper_count")
        np.testing.assert_allclose(values, net["ops_reduction"]["paper"], rtol=1e-6)
        steps, buckets = series(folder, "widths")  # (left, right, count) of each bucket
        assert steps == epochs and buckets[0][:, 2].sum() == len(net["widths"])
        assert buckets[0][-1, 1] == max(net["widths"].values())
        for figure in ("figure_1", "figure_2"):
            steps, images_ = series(folder, figure)
            assert steps == [epochs[-1]]
            width, height, png = images_[0]
            assert int(width) > 300 and int(height) > 300 and png.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["tensorboard", "tensorflow"])
def test_what_is_missing_is_said_before_anything_is_written(name, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: asked != name or None)
    with pytest.raises(ImportError, match=f"not installed: {name}. Install them: pip install {name}$"):
        Board(tmp_path / "logs", None)
    assert not (tmp_path / "logs").exists()


def test_keras_own_callback_beside_a_prune(tmp_path):
    """With all that it can write, the graph and histograms of weights included."""
    pytest.importorskip("tensorboard")
    prune = ADPrune(schedule=[1], rule=WidthRule(min_width=2), verbose=0)
    own = keras.callbacks.TensorBoard(
        str(tmp_path), histogram_freq=1, write_images=True, update_freq=1, write_steps_per_second=True
    )
    model = compiled(plain_cnn())
    model.fit(
        *images(40),
        batch_size=16,
        epochs=3,
        verbose=0,
        validation_data=images(20, seed=1),
        callbacks=[prune, own],
    )
    assert [e["net"] for e in prune.record] == [0, 1]
    assert list((tmp_path / "train").glob("events*"))
