"""Records of gateway keys as one front end knows them, at most half a second old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.readings import Readings
from wire.jobs import fingerprint
from wire.keyring import IssuedKey

FRESH = 0.5
"""Seconds for which a record is used without being read again, also if there is none."""


class KeyLookup:
    """Finds the records of keys; `read` returns the one with an id."""

    def __init__(self, read: Callable[[str], Awaitable[IssuedKey | None]]) -> None:
        self._readings = Readings(read)

    async def find(self, key: str) -> IssuedKey | None:
        """Return the record of a key; None if it was not issued here.

        Raises:
            LineUnavailable: Redis is unreachable.
        """
        record, _ = await self._readings.get(fingerprint(key), FRESH)
        return record if record and record.is_of(key) else None
