"""Times to wait as an upstream states them, in a header or in JSON. Pure.

An upstream may send any number, and such a time parks an account or goes on to a client.
"""

from __future__ import annotations

import math
import re

LONGEST = 86_400.0
"""Seconds; a longer time counts as this one. A limit that still holds then is stated again."""

_NUMBER = re.compile(r"\d+(\.\d*)?", re.ASCII)
"""`Retry-After` in seconds. Its other form, a date, would need synchronized clocks."""


def read_retry_after(value: object) -> float | None:
    """Return a time in seconds, at most `LONGEST`; None for anything but a positive number."""
    match value:
        case bool():
            return None
        case str() if _NUMBER.fullmatch(value.strip()):
            pass
        case int() | float():
            pass
        case _:
            return None
    try:
        seconds = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return min(seconds, LONGEST) if 0 < seconds < math.inf else None
