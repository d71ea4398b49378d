"""One process at a time in a directory, by a lock of the operating system."""

import contextlib
import pathlib

from adprune_keras.files.atomic import own_path
from adprune_keras.files.packages import need

NAME = "lock"

_taken: dict[pathlib.Path, "Lock"] = {}  # those that this process holds, by their directories


class Lock:
    """The lock of a directory: a file that one process has locked.

    The system releases it when that process ends, however it ends. So a file that is left over says
    nothing, whatever is in it. Within one process the last `Lock` that takes it has it: a `fit` that
    broke off leaves its lock behind, and the next one goes on with it.

    Args:
        directory: path of a directory that exists.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self._file = None

    def take(self):
        """Take the lock, or raise at once.

        Raises:
            ValueError: another process holds it, or a link stands in its place.
            OSError: the directory cannot be written, or its file system has no locks.
            ImportError: the package filelock is not installed.
        """
        need("A backup", "filelock")
        import filelock

        earlier = _taken.get(self.directory)
        if earlier is not None and earlier._holds():
            file, earlier._file = earlier._file, None
        else:
            if earlier is not None:
                earlier.release()
            file = filelock.FileLock(own_path(self.directory, NAME), thread_local=False)
            try:
                file.acquire(blocking=False)
            except filelock.Timeout as e:
                raise ValueError(
                    f"{self.directory} is in use. Received: {self.directory / NAME}, locked by another "
                    "process. End that process, or choose another directory."
                ) from e
        self._file = file
        self._inode = self._seen()
        _taken[self.directory] = self

    def check(self):
        """Raise `ValueError` where the lock is no longer this one's."""
        if not self._holds():
            raise ValueError(
                f"This process no longer holds the lock of {self.directory}: its file was removed or "
                "replaced, or another `fit` has taken it. This one must end, as that one goes on with "
                f"the run. Received: {self.directory / NAME}"
            )

    def release(self):
        """Give the lock back; nothing happens where it is not held."""
        if self._file is None:
            return
        if self._holds():  # removed while it is locked, so that nobody locks a file that goes
            with contextlib.suppress(OSError):
                (self.directory / NAME).unlink()
        self._file.release()
        self._file = None
        del _taken[self.directory]

    def _holds(self):
        """Whether the file that this process has locked is the one that others would lock."""
        locked = self._file is not None and self._file.is_locked  # not in a process forked off this one
        return locked and self._seen() == self._inode

    def _seen(self):
        """Which file stands in the lock's place; `None` where there is none."""
        try:
            found = (self.directory / NAME).lstat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
