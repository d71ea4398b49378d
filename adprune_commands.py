"""The commands' entry points: TensorFlow is imported here first, without its chatter.

Importing `adprune_keras` silences nothing: there the process is somebody else's.
"""

import contextlib
import importlib
import os
import sys
import tempfile

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def train():
    """Run `adprune-train`."""
    _run("adprune_keras.train")


def plan():
    """Run `adprune-plan`."""
    _run("adprune_keras.plan")


def report():
    """Run `adprune-report`."""
    _run("adprune_keras.report")


def export():
    """Run `adprune-export`."""
    _run("adprune_keras.export.main")


def _run(module):
    if _LEVEL not in os.environ:
        os.environ[_LEVEL] = "3"  # what goes wrong reaches Python as an exception
        with without_stderr(), contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
    importlib.import_module(module).main()


@contextlib.contextmanager
def without_stderr():
    """Keep what libraries write past Python: TensorFlow 2.21 heeds its level only once it is imported.

    Where the block raises, it is shown.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            file.seek(0)
            os.write(kept, file.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
