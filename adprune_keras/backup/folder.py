"""The directory of a `fit`'s backups: locked, read, written to, and given back."""

import numpy as np

from adprune_keras.backup import store
from adprune_keras.files.atomic import tidy
from adprune_keras.files.lock import Lock
from adprune_keras.live import devices


class Folder:
    """The directory of one `fit`'s backups. Of several processes only the chief locks and writes.

    Args:
        path: `pathlib.Path`; made where it is missing.
    """

    def __init__(self, path):
        self.path = path
        self._lock, self._number = None, 0

    def open(self, afresh=False):
        """Lock the directory and read its newest backup.

        Args:
            afresh: bool, remove what it holds instead.

        Returns:
            The state that was saved, the chief's in every process; `None` where there is none.

        Raises:
            ValueError: in use by another process, damaged, or not a directory that can be written.
        """
        many, process = devices.processes()
        found = None
        try:
            if process == 0:
                found = self._take(afresh)
        except OSError as e:
            self.close()
            raise ValueError(
                f"`backup_dir` must be a directory that can be written. Received: {self.path}: {e}"
            ) from e
        except ValueError:
            self.close()
            raise
        self._number = found.number if found else 0
        body = devices.from_chief(found.body if found else b"", many, process)
        try:
            return checked(store.decode(body)) if body else None
        except ValueError as e:
            self.close()
            raise ValueError(
                f"The backup is damaged, or was not made by this package. Received: {self.path}: "
                f"{e}. Remove the directory to start afresh."
            ) from e

    def write(self, state):
        """Save a state.

        Raises:
            BackupError: it could not be saved, or another process has the directory; it is closed.
        """
        try:
            self._lock.check()
            store.write(self.path, self._number + 1, state)
        except ValueError as e:  # the lock is another's
            self.close()
            raise store.BackupError(str(e)) from e
        except OSError as e:
            self.close()
            raise store.BackupError(
                f"The state of epoch {state['epoch']} could not be saved. Received: {self.path}: {e}. "
                "What was saved before is intact: once there is room, the same command goes on from it."
            ) from e
        self._number += 1

    def close(self, remove=False):
        """Give the directory back; with `remove` its backups go."""
        if self._lock is None:
            return
        if remove:
            store.remove(self.path)
        self._lock.release()
        self._lock = None
        if remove and not any(self.path.iterdir()):
            self.path.rmdir()

    def _take(self, afresh):
        self.path.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.path)
        lock.take()
        self._lock = lock
        tidy(self.path)
        if afresh:
            store.remove(self.path)
        return store.newest(self.path)


def checked(state):
    """Return a decoded state; `ValueError` where its parts are not of the kind that `Backup` saves."""
    kinds = {"epoch": int, "calls": int, "logs": dict, "over": bool, "settings": dict}
    kinds |= {"begin": dict, "variables": dict}
    for name, kind in kinds.items():
        if not isinstance(state, dict) or not isinstance(state.get(name), kind):
            raise ValueError(f"its `{name}` is not of type {kind.__name__}")
    others = state["begin"].get("callbacks")
    if not isinstance(others, list) or not all(isinstance(o, list) and len(o) == 2 for o in others):
        raise ValueError("its states of callbacks are not pairs of a name and a state")
    for place, arrays in state["variables"].items():
        if not isinstance(arrays, list) or not all(isinstance(a, np.ndarray) for a in arrays):
            raise ValueError(f"its variables of the {place} are not arrays")
    if min(state["epoch"], state["calls"]) < 0:
        raise ValueError("it counts fewer than no epochs or steps")
    return state
