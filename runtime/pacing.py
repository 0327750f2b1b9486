"""Turns of the event loop that stay short, whatever a stranger sends."""

from __future__ import annotations

import asyncio
import time

TURN = 0.005
"""Seconds that a task may work before the others get their turn."""


class Pacing:
    """Pauses a task that has much to do at once, so that it does not keep others waiting."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Note that the task's turn has begun, after it has waited for something."""
        self._until = time.monotonic() + TURN

    async def pause(self) -> None:
        """Let other tasks run, if this turn has been long enough."""
        if time.monotonic() >= self._until:
            await asyncio.sleep(0)
            self.begin()
