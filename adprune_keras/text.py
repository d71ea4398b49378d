"""Names as people type them, as files give them, and values as JSON holds them."""

import difflib
import math


def did_you_mean(received, known, most=3):
    """Return " Did you mean 'a' or 'b'?", the names nearest to a misspelt one; "" where none is near.

    Args:
        received: str, as it was typed; upper and lower case count the same.
        known: iterable of str, the names that there are.
        most: int, how many to name. Defaults to 3.
    """
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(received.lower(), by_lower, n=most)
    return f" Did you mean {' or '.join(repr(by_lower[name]) for name in close)}?" if close else ""


def printable(text):
    """Return a text from a file for one line: control characters are spaces."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def plain(value):
    """Return `value` as JSON holds it: NaN and infinities as `None`, tuples as lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
