"""Pauses: operators' holds on the intake of jobs, on upstreams, and on accounts, as Redis has them.

The scripts set and obey them (`scripts/modules/pauses.lua`).
"""

from __future__ import annotations

from typing import cast, get_args

import msgspec

from wire.line import keys
from wire.line.board import Pause, PauseKind
from wire.redis.client import Redis


class Hold(msgspec.Struct, frozen=True):
    """Value of a pause in Redis, with its times in ms; `until` is null if it has no end."""

    since: int
    by: str
    until: int | None = None


_decoder = msgspec.json.Decoder(Hold)


async def read_pauses(redis: Redis) -> list[Pause]:
    """Read all pauses, the oldest first. One whose time is over is removed within seconds.

    Those of kinds that only a newer release knows are left out.

    Raises:
        redis.RedisError, OSError: Redis cannot be used (`REDIS_ERRORS`).
    """
    found = await redis.hgetall(keys.pauses)  # type: ignore[misc]  # redis-py: sync or async
    pauses = (pause_of(field.decode(), value) for field, value in found.items())
    known = (pause for pause in pauses if pause.what in get_args(PauseKind))
    return sorted(known, key=lambda pause: pause.since)


def pause_of(field: str, value: bytes) -> Pause:
    """Decode one field of the hash: `<what> <name>`, and its value."""
    what, _, name = field.partition(" ")
    hold = _decoder.decode(value)
    return Pause(
        what=cast(PauseKind, what),
        name=name,
        since=hold.since / 1000,
        by=hold.by,
        until=None if hold.until is None else hold.until / 1000,
    )
