"""A few cases of each kind of `benchmarks/fuzz.py`, which runs thousands."""

import keras
import pytest

pytest.importorskip("hypothesis")
if keras.backend.backend() != "tensorflow":
    pytest.skip("what reads files is the same on all backends", allow_module_level=True)

import fuzz

CASES = {"flags": 25, "flagfiles": 40, "records": 80, "widths": 80, "npz": 40, "maps": 20, "zips": 40}


def test_what_is_all_right_is_taken(tmp_path):
    content = "\n".join(map(fuzz.json.dumps, fuzz.entries())).encode()
    assert fuzz.outcome((content, True), fuzz.try_record) == "success"
    assert fuzz.outcome([], fuzz.try_flags) == "success"
    assert fuzz.outcome(["--width_scale=nan"], fuzz.try_flags) == "one line, exit 1"


@pytest.mark.parametrize("error", [TypeError("no"), KeyError("no"), ValueError(""), SystemExit("a\nb")])
def test_fuzz_finds_what_it_looks_for(error):
    def act(case):
        raise error

    with pytest.raises((TypeError, KeyError, AssertionError)):
        fuzz.outcome(None, act)


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_hostile_input_ends_in_success_or_one_line(kind):
    outcomes, longest = fuzz.fuzz(kind, CASES[kind])
    assert 0 < outcomes["success"] < outcomes.total()
    assert longest < fuzz.SECONDS
