import dataclasses
import math

import pytest

from adprune_keras.prune.schedule import (
    KEEP,
    PRUNE,
    ROLLBACK,
    STOP,
    TRAIN,
    Saturation,
    as_schedule,
    decide,
    is_last,
    profile,
    saturated,
    slope,
    why_never,
)

CONVEX = [0.5, 0.45, 0.42, 0.4, 0.39, 0.385, 0.3845, 0.384, 0.3838]
FLAT = [0.4, 0.4002, 0.3999, 0.4001, 0.4, 0.4002]
RISING = [0.3, 0.33, 0.35, 0.36, 0.362, 0.3625, 0.363]
NOISY = [0.5, 0.48, 0.49, 0.47, 0.48, 0.46, 0.47, 0.45]
CONSTANT = [0.4] * 6
NAN = [0.5, 0.45, float("nan"), 0.4, 0.4, float("nan"), 0.4]


def made(**settings):
    """The schedule of some settings: with `prune_at` that names epochs."""
    if "prune_at" not in settings:
        return Saturation(**settings)
    return dataclasses.replace(as_schedule(settings.pop("prune_at")), **settings)


def first_decision(series, epochs=100, net=0, **settings):
    """Return (epoch count, action) of the first decision that is not to train on."""
    schedule = made(**({} if "prune_at" in settings else {"min_epochs": 1}) | settings)
    for done in range(1, len(series) + 1):
        decision = decide(schedule, series[:done], net, done, epochs)
        if decision.action != TRAIN:
            return done, decision.action
    return None


@pytest.mark.parametrize(
    ("series", "settings", "expected"),
    [
        (CONVEX, {}, (8, PRUNE)),  # 0.0005, 0.0005 after epochs 7 and 8
        (CONVEX, {"patience": 1}, (7, PRUNE)),
        (CONVEX, {"patience": 3}, (9, PRUNE)),
        (CONVEX, {"rho": 0.011}, (6, PRUNE)),  # 0.01 and 0.005
        (CONVEX, {"min_epochs": 9}, (9, PRUNE)),
        (CONVEX, {"rho": 1e-4}, None),
        (FLAT, {}, (3, PRUNE)),
        (CONSTANT, {}, (3, PRUNE)),
        (NOISY, {}, None),
        (NAN, {}, None),
        (RISING, {}, (7, PRUNE)),  # net0 has no prune behind it that could have gone too far
        (RISING, {"net": 1}, (7, ROLLBACK)),
        (RISING, {"net": 2, "rollback": False}, (7, KEEP)),
    ],
)
def test_epoch_of_the_decision(series, settings, expected):
    assert first_decision(series, **settings) == expected


def test_nan_is_no_plateau_and_has_no_slope():
    assert not saturated([0.4, float("nan"), 0.4], 1e-3, 2, 1)
    assert not saturated([float("nan")] * 5, 1e-3, 2, 1)
    assert math.isnan(slope([0.4, float("nan")]))
    assert profile([0.4, float("nan")], 1e-3) == "unknown"


def test_slope_is_the_least_squares_line():
    assert slope([1.0, 3.0, 5.0]) == 2
    assert slope([0.0, 1.0, 0.0, 1.0]) == pytest.approx(0.2)
    assert math.isnan(slope([0.4]))


@pytest.mark.parametrize(
    ("series", "expected"), [(CONVEX, "convex"), (FLAT, "flat"), (RISING, "concave")]
)
def test_profile(series, expected):
    assert profile(series, 1e-3) == expected


def test_too_late_to_prune_keeps_the_net():
    assert first_decision(CONSTANT, epochs=6) == (3, PRUNE)  # 3 of 6 epochs are left
    assert first_decision(CONSTANT, epochs=5) == (3, KEEP)
    assert first_decision(CONSTANT, epochs=10, final_epochs=7) == (3, PRUNE)
    assert first_decision(CONSTANT, epochs=10, final_epochs=8) == (3, KEEP)
    reason = decide(Saturation(min_epochs=1), CONSTANT[:3], 0, 3, 5).reason
    assert reason.endswith("but 2 epochs are left and the final net needs 3")


def test_prune_at_replaces_rho_and_delta():
    assert first_decision(RISING, prune_at=[4]) == (4, PRUNE)
    assert first_decision(CONSTANT, prune_at=[5]) == (5, PRUNE)
    assert first_decision(CONSTANT, prune_at=[5], epochs=5) == (5, KEEP)
    assert first_decision(CONSTANT, prune_at=[5], epochs=9, final_epochs=5) == (5, KEEP)


def test_final_net_trains_its_cycle_and_stops():
    schedule = Saturation(final_epochs=3)
    actions = [decide(schedule, CONSTANT, 1, done, 20, 10).action for done in (11, 12, 13)]
    assert actions == [TRAIN, TRAIN, STOP]
    assert decide(Saturation(), CONSTANT, 1, 19, 20, final_since=10).action == TRAIN


def test_max_prunes():
    assert first_decision(CONSTANT, max_prunes=0) == (1, KEEP)
    assert first_decision(CONSTANT, net=1, max_prunes=2) == (3, PRUNE)
    assert is_last(Saturation(max_prunes=1), prunes=1, done=10, epochs=100)
    assert not is_last(Saturation(max_prunes=2), prunes=1, done=10, epochs=100)


def test_is_last_when_no_prune_fits_any_more():
    schedule = Saturation(min_epochs=10)  # half of 60 must be left, so the last prune is at 30
    assert not is_last(schedule, prunes=1, done=20, epochs=60)
    assert is_last(schedule, prunes=1, done=21, epochs=60)
    assert is_last(made(prune_at=[5, 9]), prunes=2, done=9, epochs=60)
    assert not is_last(made(prune_at=[5, 9]), prunes=1, done=5, epochs=60)


def test_why_never():
    assert why_never(Saturation(), 20) is None
    assert why_never(Saturation(), 19).startswith(
        "epochs=19 is too few to prune: AE is watched for at least 10 epochs"
    )
    assert "Train for 20 epochs or more" in why_never(Saturation(), 19)
    assert "Train for 25 epochs or more" in why_never(Saturation(final_epochs=15), 24)
    assert "schedule=[8] leaves no epoch" in why_never(made(prune_at=[8]), 8)
    assert why_never(made(prune_at=[8]), 9) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": -1e-3}, "`rho` is a change of AE.*Received: rho=-0.001"),
        ({"rho": 0}, "Received: rho=0"),
        ({"rho": "a"}, "Received: rho='a'"),
        ({"patience": 0}, "`patience` must be an int of at least 1. Received: patience=0"),
        ({"patience": 1.5}, "Received: patience=1.5"),
        ({"min_epochs": 0}, "`min_epochs` must be an int of at least 1"),
        ({"max_prunes": -1}, "`max_prunes` must be an int of at least 0"),
        ({"final_epochs": 0}, "`final_epochs` must be an int of at least 1"),
        ({"prune_at": []}, r"rising order, such as \[25\].*Received: schedule=\[\]"),
        ({"prune_at": [9, 5]}, "rising order"),
        ({"prune_at": [0]}, "must be ints of at least 1. Received: 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        made(**settings)
