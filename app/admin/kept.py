"""A reading of Redis that all who ask within some seconds share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.admin.boards import in_time

_Read = TypeVar("_Read")


class Kept(Generic[_Read]):
    """A reading that is used for `fresh` seconds."""

    def __init__(self, read: Callable[[], Awaitable[_Read]], fresh: float) -> None:
        self._read = read
        self._fresh = fresh
        self._begun = 0.0
        self._reading: asyncio.Future[_Read] | None = None

    async def latest(self) -> _Read:
        """Return the last reading, or read again.

        Raises:
            RedisGone: Redis cannot be used.
        """
        now = asyncio.get_running_loop().time()
        if self._reading is None or now - self._begun >= self._fresh:
            self._begun = now
            self._reading = asyncio.ensure_future(in_time(self._read()))
            # Without this asyncio logs the failure of a reading whose readers were cancelled.
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Have the next one who asks read anew."""
        self._reading = None
