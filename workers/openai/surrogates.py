"""JSON with half characters: surrogate escapes without their other half, as in `"\\ud83d"`.

Programs that cut texts by UTF-16 units send them, and others put them together again. The decoder
refuses them, so they are masked while JSON is read, and unmasked in what is relayed.
"""

from __future__ import annotations

import re

_MARK = b"\\u0001~"
_ESCAPE = re.compile(rb"\\u(?=[dD][89a-fA-F])")


def mask_surrogates(data: bytes) -> bytes | None:
    """Return the JSON without surrogate escapes; None if there are none, or no way back."""
    if _MARK in data:
        return None
    masked, count = _ESCAPE.subn(lambda _: _MARK, data)
    return masked if count else None


def unmask_surrogates(data: bytes) -> bytes:
    """Reverse `mask_surrogates`, also for a part of its result."""
    return data.replace(_MARK, b"\\u")
