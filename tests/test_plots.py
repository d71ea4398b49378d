import matplotlib.figure
import numpy as np

from adprune_keras.plots import density_figure


def net(index, start, density, accuracy, outcome):
    return {
        "net": index,
        "start": start,
        "epochs": len(density),
        "ops_reduction": {"paper": 2.0, "deployed": 1.5},
        "outcome": outcome,
        "logs": {"activation_density": density, "val_accuracy": accuracy},
    }


def test_series_lie_at_their_epochs_and_prunes_are_marked(tmp_path):
    figure = density_figure(
        [net(0, 0, [0.5, 0.4, 0.4], [0.1, 0.2, 0.3], "pruned"), net(1, 3, [0.6], [None], "final")]
    )
    assert isinstance(figure, matplotlib.figure.Figure)
    above, below = figure.axes
    first, mark, second = above.lines
    assert list(first.get_xdata()) == [1, 2, 3]
    assert list(first.get_ydata()) == [0.5, 0.4, 0.4]
    assert list(mark.get_xdata()) == [3.5, 3.5]
    assert (list(second.get_xdata()), list(second.get_ydata())) == ([4], [0.6])
    np.testing.assert_allclose(below.lines[0].get_ydata(), [10, 20, 30])
    assert np.isnan(below.lines[2].get_ydata()).all()
    labels = [t.get_text() for t in above.get_legend().get_texts()]
    assert labels[1] == "net1: 2.0x / 1.5x fewer MACs (paper / deployed)"
    figure.savefig(tmp_path / "f.png")


def test_dense_run_without_density():
    dense = net(0, 0, [0.5], [0.9], "final")
    dense["logs"].pop("activation_density")
    dense["ops_reduction"] = None
    assert np.isnan(density_figure([dense]).axes[0].lines[0].get_ydata()).all()
