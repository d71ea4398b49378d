import pytest

from adprune_keras import WidthRule
from adprune_keras.prune.target import within_budget
from adprune_keras.prune.widths import next_widths


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
        (64, 0.1, WidthRule(max_shrink=0.5), 32),
        (64, 0.6, WidthRule(max_shrink=0.5), 38),  # 38.4: the cap is not in the way
        (65, 0.0, WidthRule(max_shrink=0.25), 49),  # 48.75 must stay
    ],
)
def test_new_width(width, density, rule, expected):
    assert rule(width, density) == expected


def test_new_width_in_equal_parts():
    assert WidthRule()(12, 0.5, parts=3) == 6
    assert WidthRule()(12, 0.4, parts=3) == 6  # 4.8 is nearer to 6 than to 3
    assert WidthRule()(12, 0.1, parts=3) == 6  # min_width=4, and a multiple of 3
    assert WidthRule(round_to=4)(36, 0.5, parts=3) == 24  # multiples of 12: 18 rounds up


def test_include_and_exclude():
    widths = dict.fromkeys(["stem", "block1_conv1", "block1_conv2", "block2_conv1"], 10)

    def pruned(**patterns):
        return [
            k
            for k, w in next_widths(widths, dict.fromkeys(widths, 0.5), WidthRule(**patterns)).items()
            if w == 5
        ]

    assert pruned() == list(widths)
    assert pruned(include="stem") == ["stem"]
    assert pruned(include=r"block\d_conv1") == ["block1_conv1", "block2_conv1"]
    assert pruned(include="block.*", exclude=["block2_conv1"]) == ["block1_conv1", "block1_conv2"]
    assert pruned(exclude=".*conv1") == ["stem", "block1_conv2"]
    assert pruned(include="block1") == []  # a part of a name is no match
    with pytest.raises(ValueError, match=r"`include` matches no layer.*Received: include='block1'"):
        WidthRule(include="block1").check(widths)


def test_budget_is_reached_and_not_passed():
    widths, wanted = {"a": 100, "b": 40}, {"a": 50, "b": 10}

    def reduction(w):
        return 100 * 40 / (w["a"] * w["b"])

    assert within_budget(widths, wanted, reduction, 8.0) == (wanted, False)
    found, reached = within_budget(widths, wanted, reduction, 3.0)
    assert reached
    assert reduction(found) <= 3.0 < reduction({"a": found["a"] - 1, "b": found["b"] - 1})
    found, _ = within_budget(widths, wanted, reduction, 3.0, {"a": 8, "b": 5})
    assert found["a"] % 8 == found["b"] % 5 == 0
    assert reduction(found) <= 3.0


def test_next_widths_in_order():
    widths = {"b": 10, "a": 20}
    assert list(next_widths(widths, {"a": 0.5, "b": 0.5, "c": 0.1}, WidthRule()).items()) == [
        ("b", 5),
        ("a", 10),
    ]


def test_bad_densities_name_the_layer():
    with pytest.raises(ValueError, match=r"No density for layer 'a'. Received: \['b'\]"):
        next_widths({"a": 4}, {"b": 0.5}, WidthRule())
    for density in (float("nan"), -0.1, 1.1, None, "0.5"):
        with pytest.raises(ValueError, match=r"Layer 'a': A density must be in \[0, 1\]"):
            next_widths({"a": 4}, {"a": density}, WidthRule())


@pytest.mark.parametrize("settings", [{"min_width": 0}, {"round_to": 0}, {"round_to": 2.0}])
def test_bad_rule(settings):
    with pytest.raises(ValueError, match="must be an int of at least 1. Received"):
        WidthRule(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_shrink": 0}, "`max_shrink`.*Received: max_shrink=0"),
        ({"max_shrink": 1.5}, "`max_shrink`.*Received: max_shrink=1.5"),
        (
            {"include": "("},
            r"`include` must be layer names or regular expressions. Received: include='\('",
        ),
        ({"exclude": 3}, "`exclude` must be layer names"),
    ],
)
def test_bad_caps_and_patterns(settings, message):
    with pytest.raises(ValueError, match=message):
        WidthRule(**settings)
