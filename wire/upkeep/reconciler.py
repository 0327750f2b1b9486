"""Compares the line's leases, seats and places with its jobs, and puts right what differs.

In a healthy Redis nothing ever differs, as every script changes all of them together. After an
evicted key, or a failover that lost part of what was written, they may, and a slot would be lost
for good. One process looks, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from arq.connections import ArqRedis

from wire.line.scripts import Scripts
from wire.redis.client import AWAY

logger = logging.getLogger(__name__)

BEATS = 20
"""Heartbeats between two looks."""

_AT_ONCE = 100  # accounts that one call looks at: Redis does nothing else meanwhile


async def keep_reconciling(scripts: Scripts, heartbeat: float) -> None:
    """Look for ever."""
    every = BEATS * heartbeat
    while True:
        await asyncio.sleep(every)
        with contextlib.suppress(*AWAY):
            if found := await reconcile(scripts, every):
                logger.warning("the line had to be repaired in %d places", found)


async def reconcile(scripts: Scripts, every: float) -> int:
    """Look once; how many places had to be put right.

    Of all processes that call it `every` so many seconds, one does it.
    """
    period = round(every * 1000)
    if not await scripts.redis.set("gateway:reconciler", b"", px=period - 1, nx=True):
        return 0
    accounts = await _seated(scripts.redis)
    found = 0
    for at in range(0, max(1, len(accounts)), _AT_ONCE):
        found += await scripts.run("reconcile", 2 * period, *accounts[at : at + _AT_ONCE])
    return found


async def _seated(redis: ArqRedis) -> list[str]:
    """The accounts that have seats taken."""
    seated: set[str] = set()
    for kind in ("queued", "running"):
        keys = redis.scan_iter(match=f"gateway:{kind}:*", count=1000)
        seated |= {key.decode().rpartition(":")[2] async for key in keys}
    return sorted(seated)


async def repaired(redis: ArqRedis) -> int:
    """How many places had to be put right a moment ago."""
    return int(await redis.get("gateway:repaired") or 0)
