"""SIGTERM while a `fit` runs: noted, and acted on once the state is saved."""

import inspect
import os
import signal
import threading

TERMINATED = 128 + signal.SIGTERM  # 143: the exit code after SIGTERM, as shells report it


class Sigterm:
    """Notes SIGTERM in place of the handler that was there. Outside the main thread it does nothing.

    Args:
        model: the `keras.Model` whose `fit` runs. A signal that comes after this `fit` has broken off
            goes to the handler that was there.

    Attributes:
        told: bool, whether the process has been told to end.
    """

    def __init__(self, model):
        self._fit = inspect.unwrap(type(model).fit).__code__
        self.told, self._before = False, None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note) or signal.SIG_DFL

    def leave(self):
        """Put the handler that was there back, unless another has taken this one's place."""
        if self._before is not None and signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _note(self, number, frame):
        while frame is not None and frame.f_code is not self._fit:
            frame = frame.f_back
        if frame is not None:
            self.told = True
        else:
            self.leave()
            os.kill(os.getpid(), number)
