"""Calls that may come by the thousand, and are spread over turns of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Pacer:
    """Makes calls in their order, at most `number` in one turn of the event loop."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._calls: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Make a call soon. It raises nothing."""
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        for _ in range(min(self._number, len(self._calls))):
            self._calls[0]()
            self._calls.popleft()  # only now: a call that is added meanwhile must not start a run
        if self._calls:
            asyncio.get_running_loop().call_soon(self._run)
