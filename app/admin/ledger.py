"""Gateway keys with what they have used today, read at most every few seconds."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import msgspec
from msgspec.structs import asdict

from app.admin.kept import Kept
from wire.keyring import IssuedKey, Keyring
from wire.line.usage import Numbers, read_usage, total
from wire.redis.client import Redis

FRESH = 5.0
"""Seconds for which a reading is used."""


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway key: its record without the hash, and its usage of this day (UTC)."""

    id: str
    name: str
    created: int
    expires: int
    revoked: int
    limits: dict[str, object]
    today: Numbers


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """All gateway keys, and the usage of `others` by their books: those of listed keys, and
    `passthrough`."""

    day: str
    keys: list[KeyEntry]
    others: dict[str, Numbers]


_NO_LIMITS = ("id", "sha256", "name", "created", "expires", "revoked")


def key_entry(record: IssuedKey, today: Numbers) -> KeyEntry:
    """Describe a gateway key."""
    fields = asdict(record)
    limits = {name: value for name, value in fields.items() if name not in _NO_LIMITS}
    return KeyEntry(
        id=record.id,
        name=record.name,
        created=record.created,
        expires=record.expires,
        revoked=record.revoked,
        limits=limits,
        today=today,
    )


class Ledgers(Kept[Ledger]):
    """The ledger as one process reads it."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        super().__init__(self._read_all, FRESH)
        self._redis = redis
        self._keyring = keyring

    async def _read_all(self) -> Ledger:
        day = datetime.now(UTC).date()
        records = await self._keyring.list()
        books: defaultdict[str, list[Numbers]] = defaultdict(list)
        for use, numbers in (await read_usage(self._redis, day, day)).items():
            books[use.book].append(numbers)
        keys = [key_entry(record, total(books.pop(record.id, []))) for record in records]
        others = {book: total(numbers) for book, numbers in books.items()}
        return Ledger(day=day.isoformat(), keys=keys, others=others)
