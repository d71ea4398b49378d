"""What all tests share: one thread a worker, a fixed seed, conversions without a process."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow 2.21's oneDNN kernels write past their memory on some processors where nets are as narrow
# and batches as small as here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# pytest starts a worker for each core: more threads would only wait for each other. Children inherit it.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import pytest

# Files that take longest. They come first, so that no worker is left alone with one in the end.
_LONG = ("test_killed_runs", "test_train", "test_backup", "test_export", "test_traps", "test_docs")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def convert_here():
    """Convert to ONNX and TFLite in this process: a child spends seconds on importing TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        yield None
        return
    from adprune_keras.export import convert

    in_child = convert.in_child
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "in_child", lambda folder, limit: convert.carry_out(folder))
        yield in_child


@pytest.fixture
def real_child(convert_here, monkeypatch):
    """Convert in a process of its own, as users do."""
    from adprune_keras.export import convert

    monkeypatch.setattr(convert, "in_child", convert_here)
