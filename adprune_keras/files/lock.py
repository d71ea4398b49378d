"""One process at a time in a directory: a lock file that names its owner and shows signs of life."""

import contextlib
import json
import os
import pathlib
import socket
import tempfile
import threading
import uuid

NAME = "lock.json"
BEAT = 15.0  # seconds between two signs of life
SILENCE = 120.0  # seconds without one after which the owner counts as dead


class Lock:
    """The lock of a directory.

    The owner is named by host, process and when that process began, so that on the same host a dead
    owner is known at once, whatever the clock says. On another host its signs of life count: the
    file's time, against that of a file made now, so that only the clock of the file system matters.

    Args:
        directory: path of a directory that exists.
    """

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / NAME
        self._mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "began": _began(os.getpid()),
            "token": uuid.uuid4().hex,
        }
        self._released = threading.Event()

    def take(self):
        """Take the lock.

        Returns:
            str, why it was taken over from another process, or `None`.

        Raises:
            ValueError: another process holds it.
            OSError: the directory cannot be written.
        """
        taken_over = None
        while True:
            try:
                with open(self.path, "x", encoding="utf-8") as file:
                    json.dump(self._mine, file)
                threading.Thread(target=self._beat, daemon=True).start()
                return taken_over
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):  # released just now
                    taken_over = self._clear(self._owner(), self._age())

    def check(self):
        """Raise `ValueError` where another process has taken the lock over."""
        with contextlib.suppress(FileNotFoundError):
            if self._owner() == self._mine:
                return
        raise ValueError(
            f"This process no longer holds {self.path}: it was silent for more than {SILENCE:.0f} s, "
            "and another has taken over. This one must end, as that one goes on with the run."
        )

    def release(self):
        """Give the lock back; nothing happens where it is not held."""
        self._released.set()
        with contextlib.suppress(OSError):
            if self._owner() == self._mine:
                self.path.unlink()

    def _owner(self):
        """What the file says of its owner; `{}` where it is not whole."""
        try:
            owner = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def _age(self):
        """Seconds since the owner's last sign of life."""
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".tmp-adprune-") as now:
            return os.stat(now.name).st_mtime - os.stat(self.path).st_mtime

    def _clear(self, owner, age):
        """Put a dead owner's lock out of the way and say why; raise where the owner is alive."""
        who = f"process {owner.get('pid')} on {owner.get('host')}"
        if not owner and age > BEAT:
            why = "the lock was never written to the end"
        elif owner.get("host") == self._mine["host"] and not _alive(owner):
            why = f"{who} has ended"
        elif all(owner.get(key) == self._mine[key] for key in ("pid", "host", "began")):
            why = None  # a `fit` of this process that broke off
        elif age > SILENCE:
            why = f"{who} has been silent for {age:.0f} s"
        else:
            raise ValueError(
                f"{self.path.parent} is in use. Received: {self.path}, held by {who}, last sign of life "
                f"{age:.0f} s ago. End that process, or choose another directory. The lock is free "
                f"after {SILENCE:.0f} s of silence; remove it by hand only if that process has ended."
            )
        aside = self.path.with_name(f".tmp-adprune-{self._mine['token']}")
        os.rename(self.path, aside)  # of two that come to this at once one finds no file any more
        aside.unlink()
        return why

    def _beat(self):
        while not self._released.wait(BEAT):
            try:
                if self._owner() != self._mine:
                    return
                os.utime(self.path)
            except FileNotFoundError:
                return
            except OSError:  # a full disk, a server that is away: perhaps next time
                continue


def _alive(owner):
    """Whether the process that a lock of this host names still runs."""
    pid = owner.get("pid")
    if os.name != "posix" or not isinstance(pid, int) or pid <= 0:
        return True  # cannot be told: signs of life decide
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return owner.get("began") == _began(pid)


def _began(pid):
    """When a process began, in ticks since the machine did; `None` where that cannot be known.

    A number, once used again, is another process; so is one that has ended and waits to be collected.
    """
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
