"""JSON with half characters: surrogate escapes without their other half, as in `"\\ud83d"`.

Programs that cut texts by UTF-16 units send them, and others put them together again. The decoder
refuses them, so they are masked while JSON is read, and unmasked in what is relayed.
"""

from __future__ import annotations

import re

MAX_MASKED = 20_000

_MARK = b"\\u0001~"
_ESCAPE = re.compile(rb"\\u(?=[dD][89a-fA-F])")


def mask_surrogates(data: bytes) -> bytes | None:
    """Return the JSON without surrogate escapes; None if there are none, or no way back.

    None also if there are more than `MAX_MASKED` of them, since each costs a microsecond.
    """
    if _MARK in data:
        return None
    masked, count = _ESCAPE.subn(rb"\\u0001~", data, count=MAX_MASKED + 1)
    return masked if 0 < count <= MAX_MASKED else None


def unmask_surrogates(data: bytes) -> bytes:
    """Reverse `mask_surrogates`, also for a part of its result."""
    return data.replace(_MARK, b"\\u")
