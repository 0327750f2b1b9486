"""A timer for deadlines that are put off again and again, and seldom reached."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls `ring` once, at a time on the loop's clock that may be moved until then.

    Putting it off costs next to nothing: the timer of the loop is left as it is, and started again
    if it runs out too early. To be stopped in the end.
    """

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring: Callable[[], object] | None = ring
        self._at = self._runs_out_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at that time instead; never, if it is infinite."""
        self._at = at
        if at < self._runs_out_at:
            self._start()

    def stop(self) -> None:
        """Never ring again. The alarm no longer refers to its owner, so they are no cycle."""
        self._ring = None
        self._drop_timer()

    def _start(self) -> None:
        self._drop_timer()
        self._runs_out_at = self._at
        self._timer = asyncio.get_running_loop().call_at(self._at, self._run_out)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._runs_out_at = math.inf

    def _run_out(self) -> None:
        self._drop_timer()
        if asyncio.get_running_loop().time() < self._at:
            self.set(self._at)
        elif self._ring is not None:
            self._at = math.inf
            self._ring()
