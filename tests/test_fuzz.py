"""A few cases of each kind of `benchmarks/fuzz.py`, which runs thousands."""

import keras
import pytest

pytest.importorskip("hypothesis")
if keras.backend.backend() != "tensorflow":
    pytest.skip("what reads files is the same on all backends", allow_module_level=True)

import fuzz

CASES = {
    "flags": 25,
    "plans": 25,
    "flagfiles": 40,
    "records": 40,
    "widths": 80,
    "npz": 40,
    "maps": 20,
    "zips": 40,
}


def test_what_is_all_right_is_taken(tmp_path):
    content = "\n".join(map(fuzz.json.dumps, fuzz.entries())).encode()
    assert fuzz.outcome((content, fuzz.json.dumps(fuzz.exported()), True), fuzz.try_record) == "success"
    assert fuzz.outcome([], fuzz.try_flags) == "success"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--learning_rate=nan"],
            "`learning_rate` must be a finite number of at least 0. Received: learning_rate=nan",
        ),
        (["--width_scale=1e308"], "--width_scale must be above 0, at most 1000. Received: 1e+308"),
        (
            ["--width_scale=1", f"--widths={'99999,' * 7}9"],
            "The network is too wide. Received: widths=[99999",
        ),
        (
            ["--include=nothing"],
            "`include` matches no layer that may be pruned. Received: include='nothing'",
        ),
        (["--run_dir=bad.npz/x"], "Not a directory: 'bad.npz/x/backup'"),
        (["--run_dir=bad.npz"], "A run directory must be a directory. Received: the file bad.npz"),
        (["--dataset=bad.npz"], "An .npz data set holds the arrays"),
    ],
)
def test_flags_that_are_refused(flags, message):
    with pytest.raises(SystemExit) as ended:
        fuzz.try_flags(flags)
    assert ended.value.code.startswith("adprune-train: ")
    assert message in ended.value.code
    assert len(ended.value.code.splitlines()) == 1


@pytest.mark.parametrize("error", [TypeError("no"), KeyError("no"), ValueError(""), SystemExit("a\nb")])
def test_fuzz_finds_what_it_looks_for(error):
    def act(case):
        raise error

    with pytest.raises((TypeError, KeyError, AssertionError)):
        fuzz.outcome(None, act)


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_hostile_input_ends_in_success_or_one_line(kind, times):
    outcomes, longest = fuzz.fuzz(kind, times * CASES[kind])
    assert 0 < outcomes["success"] < outcomes.total()
    assert longest < fuzz.SECONDS
