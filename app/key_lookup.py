"""Records of gateway keys as one front end knows them, at most half a second old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from app.openai.errors import LineUnavailable
from wire.jobs import fingerprint
from wire.keyring import IssuedKey
from wire.redis.outage import REDIS_ERRORS

FRESH = 0.5
"""Seconds for which a record is used without being read again, also if there is none."""

PATIENCE = 2.0
"""Seconds that Redis may take to answer."""

MOST = 10_000
"""Keys that are remembered. Beyond that the oldest ones are read again."""


class _Reading(msgspec.Struct, frozen=True):
    begun: float
    record: asyncio.Task[IssuedKey | None]


class KeyLookup:
    """Finds the records of keys; `read` returns the one with an id.

    Requests of one key that come together share one reading, so a flood of them costs Redis little.
    """

    def __init__(self, read: Callable[[str], Awaitable[IssuedKey | None]]) -> None:
        self._read = read
        self._readings: dict[str, _Reading] = {}

    async def find(self, key: str) -> IssuedKey | None:
        """Return the record of a key; None if it was not issued here.

        Raises:
            LineUnavailable: Redis is unreachable.
        """
        reading = self._reading(fingerprint(key))
        try:
            async with asyncio.timeout(PATIENCE):
                record = await asyncio.shield(reading)
        except REDIS_ERRORS:
            raise LineUnavailable from None
        return record if record and record.is_of(key) else None

    def _reading(self, id: str) -> asyncio.Task[IssuedKey | None]:
        now = _now()
        known = self._readings.pop(id, None)
        if known is None or now - known.begun >= FRESH:
            known = _Reading(now, asyncio.ensure_future(self._read_one(id)))
            # Without this asyncio logs the failure of a reading whose requests were cancelled.
            known.record.add_done_callback(lambda done: done.cancelled() or done.exception())
        while len(self._readings) >= MOST:
            del self._readings[next(iter(self._readings))]
        self._readings[id] = known
        return known.record

    async def _read_one(self, id: str) -> IssuedKey | None:
        return await self._read(id)


def _now() -> float:
    return asyncio.get_running_loop().time()
