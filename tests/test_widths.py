import pytest

from adprune_keras import WidthRule
from adprune_keras.widths import next_widths


@pytest.mark.parametrize(
    ("width", "density", "rule", "expected"),
    [
        (64, 0.53125, WidthRule(), 34),
        (64, 0.3, WidthRule(), 19),  # 19.2
        (5, 0.5, WidthRule(min_width=1), 3),  # 2.5 goes up
        (64, 0.0, WidthRule(), 4),
        (64, 1.0, WidthRule(), 64),
        (3, 0.1, WidthRule(), 3),  # narrower than min_width already
        (64, 0.3, WidthRule(round_to=8), 16),  # 19.2 is nearer to 16
        (64, 0.32, WidthRule(round_to=8), 24),  # 20.48 is nearer to 24
        (64, 0.01, WidthRule(round_to=8), 8),
        (20, 1.0, WidthRule(round_to=8), 20),  # never wider than now
    ],
)
def test_new_width(width, density, rule, expected):
    assert rule(width, density) == expected


def test_next_widths_in_order():
    widths = {"b": 10, "a": 20}
    assert list(next_widths(widths, {"a": 0.5, "b": 0.5, "c": 0.1}, WidthRule()).items()) == [
        ("b", 5),
        ("a", 10),
    ]


def test_bad_densities_name_the_layer():
    with pytest.raises(ValueError, match=r"No density for layer 'a'. Received: \['b'\]"):
        next_widths({"a": 4}, {"b": 0.5}, WidthRule())
    for density in (float("nan"), -0.1, 1.1):
        with pytest.raises(ValueError, match=r"Layer 'a': A density must be in \[0, 1\]"):
            next_widths({"a": 4}, {"a": density}, WidthRule())


@pytest.mark.parametrize("settings", [{"min_width": 0}, {"round_to": 0}, {"round_to": 2.0}])
def test_bad_rule(settings):
    with pytest.raises(ValueError, match="must be an int of at least 1. Received"):
        WidthRule(**settings)
