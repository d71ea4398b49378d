import matplotlib.figure
import numpy as np

from adprune_keras.report import figures


def net(index, start, density, accuracy, outcome, layers=()):
    return {
        "net": index,
        "start": start,
        "epochs": len(density),
        "ops_reduction": {"paper": 2.0**index, "deployed": 1.5**index},
        "params_reduction": {"paper": 3.0**index, "deployed": 2.5**index},
        "outcome": outcome,
        "profile": "convex",
        "densities": {name: density for name in layers},
        "logs": {"activation_density": density, "val_accuracy": accuracy},
    }


NETS = [
    net(0, 0, [0.5, 0.4, 0.4], [0.1, 0.2, 0.3], "pruned", "ab"),
    net(1, 3, [0.6], [None], "final", "ab"),
]


def test_figure_1_lays_nets_over_each_other_and_marks_rho():
    back = [*NETS, net(2, 4, [0.7, 0.8], [0.1, 0.1], "rolled back"), net(1, 6, [0.5], [0.4], "final")]
    axes = figures.figure_1([NETS[0], NETS[1] | {"outcome": "pruned"}, *back[2:]]).axes[0]
    first, rho, second, rho1, third, again = axes.lines
    assert list(first.get_xdata()) == [1, 2, 3]
    assert list(rho.get_xdata()) == [3, 3]
    assert (list(second.get_xdata()), list(second.get_ydata())) == ([1], [0.6])
    assert list(rho1.get_xdata()) == [1, 1]
    assert list(third.get_xdata()) == [1, 2]
    assert list(again.get_xdata()) == [2]  # net1 went on where it had been
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["net0 (convex)", "net1 (convex)", "net2 (convex)"]


def test_figure_2_has_series_at_their_epochs_and_marks_prunes(tmp_path):
    figure = figures.figure_2(NETS)
    assert isinstance(figure, matplotlib.figure.Figure)
    accuracy, total, layers, _ = figure.axes
    first, mark, second = total.lines
    assert list(first.get_xdata()) == [1, 2, 3]
    assert list(first.get_ydata()) == [0.5, 0.4, 0.4]
    assert list(mark.get_xdata()) == [3.5, 3.5]
    assert (list(second.get_xdata()), list(second.get_ydata())) == ([4], [0.6])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [10, 20, 30])
    assert np.isnan(accuracy.lines[2].get_ydata()).all()
    a, b, _, a1, b1 = layers.lines
    assert a.get_color() == a1.get_color() != b.get_color() == b1.get_color()
    labels = [t.get_text() for t in accuracy.get_legend().get_texts()]
    assert labels[1] == "net1: 2.0x / 1.5x fewer MACs (paper / deployed)"
    for suffix in ("png", "svg"):
        figure.savefig(tmp_path / f"f.{suffix}")


def test_figure_2_of_a_dense_run_without_density():
    dense = net(0, 0, [0.5], [0.9], "final")
    dense["logs"].pop("activation_density")
    dense["ops_reduction"] = None
    (accuracy,) = figures.figure_2([dense]).axes
    assert list(accuracy.lines[0].get_ydata()) == [90]


def test_figure_4_holds_both_counts_of_every_net():
    uncounted = net(0, 0, [0.5], [0.9], "final") | {"ops_reduction": None}
    figure = figures.figure_4(
        [("one", [NETS[0], net(1, 3, [0.6], [0.8], "final")]), ("two", [uncounted])]
    )
    ops, params = figure.axes
    points = [np.asarray(c.get_offsets()) for c in (*ops.collections[:2], *params.collections[:2])]
    for found, final in zip(points, (2.0, 1.5, 3.0, 2.5), strict=True):
        np.testing.assert_allclose(found, [[1, 30], [final, 80]])


def test_figure_5_shows_the_image_and_every_other_relu_of_first_and_last_net():
    names = ["image", *(f"relu{i}" for i in range(1, 18))]
    maps = {f"net{n}": {name: np.full((4, 4), n + 1.0) for name in names} for n in range(3)}
    figure = figures.figure_5(maps)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:10] == titles[10:] == ["image", *(f"relu{i}" for i in range(1, 18, 2))]
    assert [figure.axes[i].get_ylabel() for i in (0, 10)] == ["net0", "net2"]
    first, last = (figure.axes[i].images[0] for i in (1, 11))
    assert first.get_clim() == last.get_clim() == (0, 3)  # one scale a layer
    assert (first.get_array() == 1).all() and (last.get_array() == 3).all()


def test_figure_5_of_a_small_or_a_deep_network():
    few = {"net0": {"image": np.ones((2, 2)), "relu": np.ones((2, 2))}}
    assert len(figures.figure_5(few).axes) == 2
    deep = {"net0": {str(i): np.ones((2, 2)) for i in range(50)}}
    assert len(figures.figure_5(deep).axes) <= 10
