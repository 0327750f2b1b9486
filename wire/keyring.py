"""Gateway keys: the records of all keys that this gateway has issued, in Redis.

A key is `gw-` and 32 random bytes. Only its SHA-256 is kept: a slow hash protects passwords, which
people choose and attackers guess, but nobody guesses 256 random bits, and a slow hash would cost
every request its time. The Lua scripts read the same records.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict, replace

from settings import CountOrZero, SecondsOrZero, Weight
from wire.jobs import fingerprint
from wire.line import keys
from wire.line.scripts import load, modules
from wire.redis.client import Redis
from wire.seal import Seal

logger = logging.getLogger(__name__)

_SCRIPTS = Path(__file__).parent / "keyring_scripts"

PREFIX = "gw-"
"""Beginning of every gateway key."""

COUNTED = ("requests", "input", "output")
"""Numbers that are counted for the metrics of a key."""

Priority = Literal["flex", "default", "priority"]
"""The highest `service_tier` that a key may ask for."""
BudgetUnit = Literal["units", "tokens", "requests"]
BotSetting = Literal[
    "enabled", "markdown_image", "plain_image_url", "bing_reference", "plugin_output"
]
"""A setting of `[bot]`."""

Time = Annotated[int, Meta(ge=0, le=253_402_300_799)]
"""Unix time, until the end of the year 9999."""
Budget = Annotated[float, Meta(ge=0, le=1e15)]


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """Record of a gateway key.

    `id` is its fingerprint and `sha256` the whole hash. `created`, `expires` (0: never) and
    `revoked` (0: it is not) are Unix times. `models`, if any, are the only ones that it may use.
    0 means no limit of its own in `max_running`, `max_waiting`, `requests_per_minute` and both
    budgets. `max_wait` in seconds bounds the forecast of a wait, 0 accepts none. `bot` overrides
    settings of `[bot]`.
    """

    id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    name: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=100)]
    created: Time
    expires: Time = 0
    revoked: Time = 0
    weight: Weight = 1.0
    priority: Priority = "priority"
    models: tuple[Annotated[str, Meta(min_length=1)], ...] = ()
    max_running: CountOrZero = 0
    max_waiting: CountOrZero = 0
    requests_per_minute: CountOrZero = 0
    budget_unit: BudgetUnit = "units"
    budget_day: Budget = 0.0
    budget_month: Budget = 0.0
    max_wait: SecondsOrZero | None = None
    bot: dict[BotSetting, bool] = {}
    notes: Annotated[str, Meta(max_length=1000)] = ""

    def is_of(self, key: str) -> bool:
        """Return True if this is the record of a key. Takes the same time for every key."""
        return hmac.compare_digest(_digest(key), self.sha256)

    def has_expired(self, now: float) -> bool:
        """Return True if it is no longer valid at a Unix time, without having been revoked."""
        return 0 < self.expires <= now

    def changed(self, fields: Mapping[str, object]) -> IssuedKey:
        """Return this record with other values of some fields.

        Raises:
            msgspec.ValidationError: a value is out of its bounds.
        """
        return msgspec.convert(asdict(self) | dict(fields), IssuedKey)


_decoder = msgspec.json.Decoder(IssuedKey)


def decode_issued(record: bytes | str) -> IssuedKey:
    """Decode a record.

    Raises:
        msgspec.MsgspecError: it is not one.
    """
    return _decoder.decode(record)


class NoSuchKeyError(Exception):
    """There is no gateway key with this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no gateway key with the id {id}.")


def identity(id: str) -> str:
    """Return the identity of the callers with a gateway key. It is not the key itself, so it can be
    computed from a record."""
    return f"gw {id}"


class Keyring:
    """All gateway keys. Every method raises `REDIS_ERRORS` if Redis cannot be used.

    A change of limits holds at once, also for jobs that wait already.
    """

    def __init__(self, redis: Redis, seal: Seal) -> None:
        self._redis = redis
        self._seal = seal
        self._store_record = load(redis, _SCRIPTS, modules(seal.fingerprint))["store"]

    async def new(self, name: str, fields: Mapping[str, object]) -> tuple[str, IssuedKey]:
        """Issue a key, with values of some fields; return it and its record.

        Raises:
            msgspec.ValidationError: a value is out of its bounds.
        """
        key = PREFIX + secrets.token_urlsafe(32)
        bare = IssuedKey(id=fingerprint(key), sha256=_digest(key), name=name, created=_now())
        record = bare.changed(fields)
        await self._store(b"", record)
        return key, record

    async def get(self, id: str) -> IssuedKey | None:
        """Return a record, also of a revoked key; None if there is none that can be read."""
        return _readable(id, await self._redis.get(keys.issued(id)))

    async def find(self, key: str) -> IssuedKey | None:
        """Return the record of a key."""
        record = await self.get(fingerprint(key))
        return record if record and record.is_of(key) else None

    async def list(self) -> list[IssuedKey]:
        """Return all records that can be read, the oldest first."""
        ids = sorted(id.decode() for id in await self._redis.smembers(keys.keyring))  # type: ignore[misc]  # redis-py: sync or async
        return sorted(await self.some(ids), key=lambda record: (record.created, record.id))

    async def some(self, ids: Sequence[str]) -> Sequence[IssuedKey]:
        """Return those records with these ids that can be read."""
        found = await self._redis.mget([keys.issued(id) for id in ids]) if ids else []
        records = [_readable(id, record) for id, record in zip(ids, found, strict=True)]
        return [record for record in records if record]

    async def count(self) -> int:
        """Return the number of all keys, also of revoked ones."""
        return int(await self._redis.scard(keys.keyring))  # type: ignore[misc]  # redis-py: sync or async

    async def set(self, id: str, fields: Mapping[str, object]) -> IssuedKey:
        """Change fields of a record, and return it.

        Raises:
            NoSuchKeyError: there is no such record.
            msgspec.ValidationError: a value is out of its bounds.
        """
        _, record = await self.change(id, lambda record: record.changed(fields))
        return record

    async def revoke(self, id: str) -> IssuedKey:
        """Mark a key as revoked, once and for all, and return its record.

        Raises:
            NoSuchKeyError: there is no such record.
        """
        _, record = await self.change(id, revoked_now())
        return record

    async def revoked(self) -> Sequence[str]:
        """Return the ids of revoked keys that may have jobs."""
        found = await self._redis.smembers(keys.revoked)  # type: ignore[misc]  # redis-py: sync or async
        return [id.decode() for id in found]

    async def forget_revoked(self, id: str) -> None:
        """Note that a revoked key has no job any more, and needs no metrics of its own."""
        await self._redis.hdel(keys.counted, *(f"{id} {number}" for number in COUNTED))  # type: ignore[misc]  # redis-py: sync or async
        await self._redis.srem(keys.revoked, id)  # type: ignore[misc]  # redis-py: sync or async

    async def import_(self, records: Iterable[IssuedKey]) -> int:
        """Add records that are missing, and return their number.

        A record that exists stays as it is, but a key that is revoked in either is revoked.
        """
        added = 0
        for record in records:
            if await self._store(b"", record):
                added += 1
            elif record.revoked:
                await self.change(record.id, partial(_revoked, at=record.revoked))
        return added

    async def change(
        self, id: str, change: Callable[[IssuedKey], IssuedKey]
    ) -> tuple[IssuedKey, IssuedKey]:
        """Replace a record by what `change` makes of it, and return both. If another change comes
        first, begin again.

        Raises:
            NoSuchKeyError: there is no such record.
            msgspec.ValidationError: a value is out of its bounds.
        """
        while True:
            present = await self._redis.get(keys.issued(id))
            record = _readable(id, present)
            if present is None or record is None:
                raise NoSuchKeyError(id)
            changed = change(record)
            if await self._store(present, changed):
                return record, changed

    async def _store(self, present: bytes, record: IssuedKey) -> bool:
        """Store a record in place of the present one, b"" for none; False if that is another."""
        key = self.key_of(record.id)
        return bool(await self._store_record(args=[record.id, present, _encoded(record), key]))

    def key_of(self, id: str) -> str:
        """Return the HMAC by which the line names the jobs of a gateway key."""
        return self._seal.name("account", identity(id))


def revoked_now() -> Callable[[IssuedKey], IssuedKey]:
    """Return the change that revokes a key, for `Keyring.change`."""
    return partial(_revoked, at=_now())


def _revoked(record: IssuedKey, at: int) -> IssuedKey:
    return record if record.revoked else replace(record, revoked=at)


def _readable(id: str, record: bytes | None) -> IssuedKey | None:
    if record is None:
        return None
    try:
        return decode_issued(record)
    except msgspec.MsgspecError:
        logger.warning(
            "the record of a gateway key cannot be read",
            extra={"event": "issued_key_unreadable", "key": id},
        )
        return None


def _encoded(record: IssuedKey) -> bytes:
    return msgspec.json.encode(record)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _now() -> int:
    return int(time.time())
