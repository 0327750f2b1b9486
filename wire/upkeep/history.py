"""Records the history: every process is ready to, and one of them does so each minute."""

from __future__ import annotations

import asyncio
import contextlib

from wire.line.history import History
from wire.line.snapshot import TakeSnapshot
from wire.redis.outage import REDIS_ERRORS

RETRY = 5.0
"""Seconds until the next try if Redis cannot be used."""


async def keep_recording(history: History, take_snapshot: TakeSnapshot) -> None:
    """Record each minute that no other process has, forever."""
    while True:
        pause = RETRY
        # A minute that is not recorded is missing; other tasks log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            pause = await record(history, take_snapshot)
        await asyncio.sleep(pause)


async def record(history: History, take_snapshot: TakeSnapshot) -> float:
    """Record the present minute, unless another process has; return the time (s) until the next.

    Raises:
        redis.RedisError, OSError: Redis is unreachable (`REDIS_ERRORS`).
    """
    turn = await history.take_turn()
    if turn.minute:
        await history.record(turn, await take_snapshot())
    return turn.left
