"""Run Python in another process, which takes no code from the working directory."""

import os
import pathlib
import subprocess
import sys

import adprune_keras


def run(arguments, folder, limit, environment=None, **streams):
    """Run Python in a given folder, with the packages of this process.

    The working directory of this process is not on the child's path. Otherwise a `json.py` in a
    downloaded folder could take the place of Python's own.

    Args:
        arguments: list of str, what follows `python`. Paths in it must be absolute.
        folder: path, the child's working directory.
        limit: float, seconds after which the child is killed.
        environment: `{name: value}`, added to the environment of this process. Defaults to `None`.
        streams: further arguments of `subprocess.run`.

    Returns:
        `subprocess.CompletedProcess`.

    Raises:
        subprocess.TimeoutExpired: the child did not end within the limit.
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
    """Return the folders that this process imports from, without the working directory.

    The working directory is kept only if this package itself was imported from it.
    """
    here = os.path.realpath(os.curdir)
    ours = os.path.realpath(pathlib.Path(adprune_keras.__file__).parent.parent)
    return [
        path
        for path in sys.path
        if os.path.isabs(path) and os.pathsep not in path
        if here == ours or os.path.realpath(path) != here
    ]
