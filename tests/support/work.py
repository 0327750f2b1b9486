"""Work that is counted rather than timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of_code(call: Callable[[], object]) -> int:
    """The lines of code that a call executes."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(former)
    return lines


class Searched(bytearray):
    """Bytes that count those in which something was searched."""

    searched = 0

    def find(self, wanted: Any, start: int = 0, end: int | None = None, /) -> int:  # type: ignore[override]
        """Find as a bytearray does."""
        found = super().find(wanted, start, end)
        stop = len(self) if end is None else end
        self.searched += (found if found >= 0 else stop) - start + 1
        return found
