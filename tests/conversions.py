"""Convert in this process in tests: a child needs six seconds, most of them to import TensorFlow."""

import pytest
from adprune_keras.export import convert

IN_CHILD = convert.in_child


@pytest.fixture(scope="module", autouse=True)
def in_process():
    """Do the child's work here; a test that is about the child takes `real_child`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "in_child", lambda folder, limit: convert.carry_out(folder))
        yield


@pytest.fixture
def real_child(monkeypatch):
    monkeypatch.setattr(convert, "in_child", IN_CHILD)
