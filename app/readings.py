"""Values in Redis as one front end knows them, for a short time after each reading.

Requests that need the same value together share one reading, so a flood of them costs Redis little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from app.openai.errors import LineUnavailable
from wire.redis.outage import REDIS_ERRORS

PATIENCE = 2.0
"""Seconds that Redis may take to answer."""

MOST = 10_000
"""Values that are remembered. Beyond that the oldest ones are read again."""

_Value = TypeVar("_Value")


class _Reading(msgspec.Struct, Generic[_Value], frozen=True):
    begun: float
    value: asyncio.Task[_Value]


class Readings(Generic[_Value]):
    """Reads values by their names with `read`."""

    def __init__(self, read: Callable[[str], Awaitable[_Value]]) -> None:
        self._read = read
        self._readings: dict[str, _Reading[_Value]] = {}

    async def get(self, name: str, fresh: float) -> tuple[_Value, float]:
        """Return a value that is less than `fresh` seconds old, and the time of its reading.

        Raises:
            LineUnavailable: Redis is unreachable.
        """
        reading = self._reading(name, fresh)
        try:
            async with asyncio.timeout(PATIENCE):
                value = await asyncio.shield(reading.value)
        except REDIS_ERRORS:
            raise LineUnavailable from None
        return value, reading.begun

    def _reading(self, name: str, fresh: float) -> _Reading[_Value]:
        now = _now()
        known = self._readings.pop(name, None)
        if known is None or now - known.begun >= fresh:
            known = _Reading(now, asyncio.ensure_future(self._read_one(name)))
            # Without this asyncio logs the failure of a reading whose requests were cancelled.
            known.value.add_done_callback(lambda done: done.cancelled() or done.exception())
        while len(self._readings) >= MOST:
            del self._readings[next(iter(self._readings))]
        self._readings[name] = known
        return known

    async def _read_one(self, name: str) -> _Value:
        return await self._read(name)


def _now() -> float:
    return asyncio.get_running_loop().time()
