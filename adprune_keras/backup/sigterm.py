"""What a process that is told to end says."""

import signal

TERMINATED = 128 + signal.SIGTERM  # 143: the exit code after SIGTERM, as shells report it
