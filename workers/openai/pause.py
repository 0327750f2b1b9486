"""Times after which a limited server wants to be asked again, from the headers of its answer. Pure.

Only what is used up counts: a server may send the time of a limit that is not reached, and -1 for
a number that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workers.retry_after import read_retry_after

_LIMITS = ("requests", "tokens")

_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|s|m|h|d)", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_TEXT = 40


def read_pause(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, None if the server did not say."""
    milliseconds = read_retry_after(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = read_retry_after(headers.get("Retry-After"))
    return _read_reset(headers) if seconds is None else seconds


def read_used_up(headers: Mapping[str, str]) -> float:
    """Return the seconds until the limits are reset that a good answer has used up, else 0."""
    return _read_reset(headers) or 0.0


def _read_reset(headers: Mapping[str, str]) -> float | None:
    used_up = [
        limit
        for limit in _LIMITS
        if headers.get(f"x-ratelimit-remaining-{limit}", "").strip() == "0"
    ]
    resets = [read_duration(headers.get(f"x-ratelimit-reset-{limit}", "")) for limit in used_up]
    return max(filter(None, resets), default=None)


def read_duration(text: str) -> float | None:
    """Read a time such as `1s`, `6m0s`, `12ms` or `7.66`; None for anything else."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return None
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return read_retry_after(text)
    return read_retry_after(sum(float(number) * _UNITS[unit] for number, unit in parts))
