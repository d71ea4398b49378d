"""Files of backups: whole or not there, and damage at any byte is seen."""

import errno
import io
import json
import os
import warnings

import numpy as np
import pytest

from adprune_keras.backup import store

STATE = {"epoch": 3, "nested": [{"weights": np.arange(6, dtype="float32").reshape(2, 3)}, None, "x"]}


def both(directory):
    store.write(directory, 1, STATE | {"epoch": 1})
    store.write(directory, 2, STATE | {"epoch": 2})
    return directory / "a.backup", directory / "b.backup"  # the newer, the older


def epoch(directory):
    return store.decode(store.newest(directory).body)["epoch"]


def test_what_is_written_is_read_to_the_bit():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    state = {
        "halves": np.array([1.5, -2], ml_dtypes.bfloat16),
        "odd": [np.array(7, "uint32"), np.array([np.nan, np.inf]), float("nan"), 0.1, True, None],
        "number": np.float32(0.1),
    }
    again = store.decode(store.encode(state))
    assert again["halves"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(again["halves"], state["halves"])
    assert (again["odd"][0].shape, again["odd"][0].dtype) == ((), np.uint32)
    np.testing.assert_array_equal(again["odd"][1], state["odd"][1])
    assert repr(again["odd"][2:]) == "[nan, 0.1, True, None]"
    assert np.float32(again["number"]) == state["number"]


def test_a_layer_may_be_named_array():
    state = {"widths": {"array": 8, "dtype": 4}, "kept": {"array": [0, 1]}}
    assert store.decode(store.encode(state)) == state


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: 0.5}, "keys of a state must be of type str. Received: 1"),
        ({True: 0.5}, "keys of a state must be of type str. Received: True"),
        (np.array([1.0], ">f4"), "byte order of this machine. Received: an array of dtype >f4"),
        (np.array(["a"]), "must be of numbers.*dtype <U1"),
        (np.array([1, "a"], object), "must be of numbers.*dtype object"),
        (np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]), "must be of numbers"),
        (np.array(["2020-01-01"], "datetime64[D]"), "must be of numbers"),
    ],
)
def test_what_would_be_read_as_something_else_is_not_saved(value, message):
    with pytest.raises(ValueError, match=message):
        store.encode({"callback": [value]})


def test_two_generations(tmp_path):
    assert store.newest(tmp_path) is None
    newer, older = both(tmp_path)
    assert (store.newest(tmp_path).number, epoch(tmp_path)) == (2, 2)
    store.write(tmp_path, 3, STATE | {"epoch": 3})
    assert epoch(tmp_path) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [newer.name, older.name]


def test_the_clock_may_go_back(tmp_path):
    os.utime(both(tmp_path)[0], (0, 0))
    assert epoch(tmp_path) == 2


def test_damage_at_every_byte_is_seen(tmp_path):
    newer, _ = both(tmp_path)
    content = newer.read_bytes()
    for at in range(len(content)):
        flipped = bytes([content[at] ^ (1 << at % 8)])
        for damaged in (content[:at], content[:at] + flipped + content[at + 1 :]):
            newer.write_bytes(damaged)
            with pytest.warns(
                UserWarning, match=r"a\.backup does not serve, as it is damaged: .*b\.backup"
            ):
                assert epoch(tmp_path) == 1
    newer.unlink()
    newer.mkdir()
    with pytest.warns(UserWarning, match="Is a directory"):
        assert epoch(tmp_path) == 1


def test_missing_files(tmp_path):
    newer, older = both(tmp_path)
    content = older.read_bytes()
    older.unlink()
    with pytest.warns(UserWarning, match=r"b\.backup does not serve, as it is missing"):
        assert epoch(tmp_path) == 2
    newer.unlink()
    older.write_bytes(content)
    with warnings.catch_warnings():  # the first of a run stands alone
        warnings.simplefilter("error")
        assert epoch(tmp_path) == 1


def test_both_damaged_is_refused(tmp_path):
    for path in both(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"No backup here can be read.*a\.backup.*b\.backup.*Remove"):
        store.newest(tmp_path)


def test_newer_format_is_refused_though_the_older_generation_is_readable(tmp_path, monkeypatch):
    both(tmp_path)
    newer = store.FORMAT + 1
    monkeypatch.setattr(store, "FORMAT", newer)
    store.write(tmp_path, 4, STATE)
    monkeypatch.setattr(store, "FORMAT", newer - 1)
    with pytest.raises(ValueError, match=f"format {newer}, expected {newer - 1}"):
        store.newest(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch, call):
    both(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        store.write(tmp_path, 3, STATE)
    monkeypatch.undo()
    assert epoch(tmp_path) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_unpickled():
    body = packed({"x": {"array": 0, "dtype": "object"}}, **{"0": np.array([object()])})
    with pytest.raises(ValueError, match="allow_pickle"):
        store.decode(body)


def test_files_under_the_names_of_backups_that_are_none_stay(tmp_path):
    store.write(tmp_path, 1, STATE)
    (tmp_path / "a.backup").write_text("years of mail")
    with pytest.raises(ValueError, match="not backups. They may be yours. Received: .*a.backup"):
        store.remove(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "a.backup").unlink()
    (tmp_path / "a.backup").symlink_to(tmp_path / "b.backup")
    with pytest.raises(ValueError, match="not backups"):
        store.remove(tmp_path)


def packed(state, **arrays):
    """An archive that is smaller than what it holds, as `encode` never makes one."""
    file = io.BytesIO()
    np.savez_compressed(file, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (packed({}, zeros=np.zeros(1 << 20)), "would take 8,388,8.. bytes"),
        (packed({"x": {"array": 7, "dtype": "float32"}}), "does not hold"),
        (packed({"x": {"array": "state", "dtype": "object"}}), "data-type"),
        (b"PK", "zip"),
    ],
)
def test_bodies_that_were_not_encoded_here(body, message):
    with pytest.raises(ValueError, match=message):
        store.decode(body)
