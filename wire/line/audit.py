"""The audit log: every action of an operator, with its time, in Redis and in the log of a process.

It names keys by their ids and HMACs, and holds no key, request or answer.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec.structs import replace

from wire.line import keys
from wire.redis.client import Redis

logger = logging.getLogger(__name__)

KEPT = 10_000
"""Entries that are kept, at least; older ones are removed."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One action: `who` did it at a time, in seconds by Redis' clock, by the page, the API or a
    terminal (`via`), from an `address`.

    `target` is the thing that it was about, `details` are further facts, such as changed fields,
    and `result` is a word.
    """

    who: str
    via: str
    address: str = ""
    action: str
    target: str = ""
    details: dict[str, str] = {}
    result: str = ""
    at: float = 0.0


_decoder = msgspec.json.Decoder(AuditEntry)


class Audit:
    """The audit log of one gateway."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, entry: AuditEntry) -> None:
        """Write an entry. The process logs it even if Redis cannot be used.

        Raises:
            redis.RedisError, OSError: Redis cannot be used (`REDIS_ERRORS`).
        """
        log_action(entry)
        await self._redis.xadd(
            keys.audit, {"entry": msgspec.json.encode(entry)}, maxlen=KEPT, approximate=True
        )

    async def latest(self, number: int) -> list[AuditEntry]:
        """Return the latest entries, the newest first.

        Raises:
            redis.RedisError, OSError: Redis cannot be used (`REDIS_ERRORS`).
        """
        found = await self._redis.xrevrange(keys.audit, count=number)
        return [_entry(id, fields[b"entry"]) for id, fields in found]


def log_action(entry: AuditEntry) -> None:
    """Log an action in this process alone."""
    fields = msgspec.to_builtins(entry)
    del fields["at"]
    logger.info("an operator acts", extra={"event": "operator_action", **fields})


def _entry(id: bytes, encoded: bytes) -> AuditEntry:
    """Decode an entry. Its id begins with its time in ms."""
    return replace(_decoder.decode(encoded), at=int(id.partition(b"-")[0]) / 1000)
