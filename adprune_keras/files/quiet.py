"""What libraries write to stderr past Python, kept back."""

import contextlib
import os
import re
import sys
import tempfile

_CHATTER = re.compile(rb"[IWE]\d{4} |INFO: |WARNING: All log messages before |To enable the following ")


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
