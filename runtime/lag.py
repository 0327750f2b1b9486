"""Lag of the event loop: the time by which it runs timers too late, since a task keeps it busy.

A timer at short intervals shows it. The largest lag is kept for a while, so that a reader who looks
now and then, as Prometheus does, misses none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

TICK = 0.05
"""Seconds between two timers. A task that keeps the loop busy for longer is always seen, and its
time is measured short by at most this."""

KEPT = 30.0
"""Seconds for which the largest lag is kept, at least; twice that, at most."""


class Lag:
    """Largest lag of the running event loop."""

    def __init__(self) -> None:
        self._lately = self._before = 0.0
        self._renewed = 0.0

    @property
    def largest(self) -> float:
        """Seconds of the largest lag of the last 30 to 60 seconds."""
        return max(self._lately, self._before)

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure for as long as the context lasts."""
        loop = asyncio.get_running_loop()
        self._renewed = loop.time()
        self._timer = loop.call_later(TICK, self._tick, loop, loop.time() + TICK)
        try:
            yield
        finally:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.note(now, now - due)
        self._timer = loop.call_later(TICK, self._tick, loop, now + TICK)

    def note(self, now: float, late: float) -> None:
        """Note that a timer ran so late, at a time on the clock of the loop."""
        if now - self._renewed >= KEPT:
            self._lately, self._before, self._renewed = 0.0, self._lately, now
        self._lately = max(self._lately, late)
