"""The commands' entry points: TensorFlow is imported here first, without its chatter.

Importing `adprune_keras` silences nothing: there the process is somebody else's.
"""

import contextlib
import importlib
import os
import re
import sys
import tempfile

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_CHATTER = re.compile(rb"[IWE]\d{4} |INFO: |WARNING: All log messages before |To enable the following ")


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
        with quiet_libraries(), contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
    importlib.import_module(module).main()


@contextlib.contextmanager
def quiet_libraries():
    """Keep the log lines that libraries write to stderr past Python; other lines follow at the end.

    TensorFlow 2.21 heeds its level only once it is imported, and LiteRT none. Where the block raises,
    all is shown.
    """
    sys.stderr.flush()
    kept, chatter = os.dup(2), _CHATTER
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            chatter = re.compile(rb"(?!)")  # nothing is
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file:
                if not chatter.match(line):
                    os.write(2, line)
