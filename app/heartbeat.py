"""Heartbeat of a front end: its presence in Redis, without which its jobs count as abandoned."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from runtime.tasks import background
from wire.line.presence import Presences
from wire.redis.outage import REDIS_ERRORS, Outage

logger = logging.getLogger(__name__)


class Heartbeat:
    """Writes the presence of the front end `id` every `interval` seconds.

    Calls `give_up` while Redis has accepted none for `grace` seconds: by then its jobs count as
    abandoned, and none that its clients wait for can begin.
    """

    def __init__(
        self,
        presences: Presences,
        id: str,
        interval: float,
        grace: float,
        give_up: Callable[[], None],
    ) -> None:
        self._presences = presences
        self._id = id
        self._interval = interval
        self._grace = grace
        self._give_up = give_up
        self._outage = Outage(logger, "announce this front end")

    @property
    def error(self) -> str:
        """Reason for which the last heartbeat could not be written, or ""."""
        return self._outage.reason

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be present for as long as the context lasts."""
        async with background(self._beat()):
            yield
        with contextlib.suppress(*REDIS_ERRORS):
            await self._presences.remove_front_end(self._id)

    async def _beat(self) -> None:
        while True:
            with self._outage.tolerated():
                await self._presences.show_front_end(self._id)
            if self._outage.lasts(self._grace):
                self._give_up()
            await asyncio.sleep(self._interval)
