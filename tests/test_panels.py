import re
import xml.etree.ElementTree as ET

import numpy as np
from toys import net_entry

from adprune_keras.report import figures, panels, svg

COST = {"macs": 4_000_000, "params": 1, "bias": 0, "owns_width": True}
NETS = [
    net_entry(0, 0, 2, "pruned", reason="AE saturated", layer_costs={"a": COST, "b": COST}),
    net_entry(
        *(1, 2, 2, "final"),
        widths={"a": 4, "b": 1},
        densities={"a": [0.7, None], "b": [0.2, 0.2]},
        layer_costs={"a": COST | {"macs": 1_000_000}, "side": COST | {"owns_width": False}, "b": COST},
    ),
]


def test_timeline_marks_each_change():
    figure = panels.timeline(NETS)
    accuracy, density = figure.axes
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [10, 20])
    np.testing.assert_allclose(density.lines[1].get_xdata(), [3, 4])
    marks = [line for line in density.lines if line.get_gid() == "change1"]
    assert [list(line.get_xdata()) for line in marks] == [[2.5, 2.5]] * 2
    assert [text.get_text() for text in accuracy.texts] == ["1"]
    assert panels.changes(NETS) == [
        {"epoch": 2, "net": 0, "what": "net0 was pruned to net1", "reason": "AE saturated"}
    ]


def test_a_long_run_is_drawn_by_means():
    epochs = 2 * figures.POINTS
    series = [float(i % 2) for i in range(epochs)]
    (line,) = panels.timeline([net_entry(0, 0, epochs, logs={"val_accuracy": series})]).axes[0].lines
    assert list(line.get_xdata()[:2]) == [1.5, 3.5]
    np.testing.assert_allclose(line.get_ydata(), 50)


def test_silhouette_lies_about_the_middle():
    axes = panels.silhouette(NETS).axes[0]
    dense, final = axes.patches
    values, edges, baseline = dense.get_data()
    np.testing.assert_allclose(values, [4, 2])
    np.testing.assert_allclose(baseline, [-4, -2])
    np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5])
    np.testing.assert_allclose(final.get_data().values, [2, 0.5])
    assert dense.get_facecolor()[3] < final.get_facecolor()[3]
    assert [text.get_text() for text in axes.texts] == ["8 → 4", "4 → 1"]
    assert axes.yaxis_inverted()  # the input on top
    assert axes.xaxis.get_major_formatter()(-4, 0) == "8"


def test_heat_map_is_a_mean_of_each_layer():
    axes = panels.heat_map(NETS).axes[0]
    image = axes.images[0].get_array()
    np.testing.assert_allclose(image.filled(-1), [[0.5, 0.5, 0.7, -1], [0.1, 0.1, 0.2, 0.2]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    epochs = 4 * figures.POINTS
    long = net_entry(0, 0, epochs, logs={}, densities={"a": [0.0, 0.0, 1.0, 1.0] * figures.POINTS})
    image = panels.heat_map([long]).axes[0].images[0].get_array()
    assert image.shape == (1, figures.POINTS)
    np.testing.assert_allclose(image, 0.5)


def test_macs_before_and_after():
    axes = panels.macs(NETS).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [4, 0, 4, 1, 4, 4]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "side *", "b"]
    assert [text.get_text() for text in axes.texts] == ["4.0x", "", "1.0x"]


def test_many_nets_are_drawn_in_part():
    nets = [net_entry(i, 2 * i, 2, "pruned") for i in range(99)]
    shown = [net["net"] for net in panels.distinct([*nets, net_entry(50, 198)])]
    assert shown[0] == 0 and 50 in shown and shown[-1] == 98 and len(shown) <= panels.NETS + 1


def test_svg_takes_the_colours_of_its_page():
    texts = [
        svg.inline(panels.timeline(NETS), name, "a <label>", {"change1": "why & <b>"}) for name in "xy"
    ]
    roots = [ET.fromstring(text) for text in texts]
    ids = [{e.get("id") for e in root.iter() if e.get("id")} for root in roots]
    assert ids[0] and not ids[0] & ids[1]
    for root, own in zip(roots, ids, strict=True):
        tags = {e.tag for e in root.iter()}
        assert not tags & {"style", "metadata", "script"} and "text" in tags
        assert root.get("role") == "img" and root.get("aria-label") == "a <label>"
        assert "width" not in root.attrib and root.get("viewBox")
        assert [e.text for e in root.iter("title")] == ["why & <b>"] * 4  # two panels, line and target
        used = {i for e in root.iter() for v in e.attrib.values() for i in re.findall(r"#([\w-]+)", v)}
        assert used == own
    assert "var(--net0)" in texts[0] and "var(--net1)" in texts[0]
    assert not re.search("#[0-9a-f]{6}", texts[0])  # no colour of its own
    assert "font-family" not in texts[0]
