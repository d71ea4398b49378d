"""Python processes of our own. They run no code of the folder that a command was called in."""

import os
import pathlib
import subprocess
import sys

import adprune_keras


def run(arguments, folder, limit, environment=None, **streams):
    """Run Python in a folder of ours, with the packages of this process.

    The working directory of this process is not on the child's path: a `json.py` in a folder that
    somebody downloaded must not take the place of Python's own.

    Args:
        arguments: list of str, what follows `python`; paths in it must be absolute.
        folder: path, where the child works.
        limit: seconds, after which it is killed.
        environment: `{name: value}` beside the environment of this process. Defaults to `None`.
        streams: further arguments of `subprocess.run`.

    Returns:
        `subprocess.CompletedProcess`.

    Raises:
        subprocess.TimeoutExpired: it did not end within the limit.
    """
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        timeout=limit,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(_paths())} | (environment or {}),
        stdin=subprocess.DEVNULL,
        check=False,
        **streams,
    )


def _paths():
    """The folders that this process imports from, without the working directory.

    It stays where this package itself is imported from there: then it was put there to be run.
    """
    here = os.path.realpath(os.curdir)
    ours = os.path.realpath(pathlib.Path(adprune_keras.__file__).parent.parent)
    return [
        path
        for path in sys.path
        if os.path.isabs(path) and os.pathsep not in path
        if here == ours or os.path.realpath(path) != here
    ]
