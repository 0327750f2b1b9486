"""Compares the line's leases, seats and places with its jobs, and repairs the differences.

In a healthy Redis there are none, because every script changes all of them together. After an
evicted key, or a failover that lost part of what was written, there may be, and a slot would be
lost for good. In each period one process reconciles, the first to try.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS

logger = logging.getLogger(__name__)

BEATS = 20
"""Heartbeats between two reconciliations."""

_BATCH = 100  # accounts in one call: Redis does nothing else meanwhile


async def keep_reconciling(line: UpkeepLine, heartbeat: float) -> None:
    """Reconcile once every `BEATS` heartbeats, forever."""
    interval = BEATS * heartbeat
    while True:
        await asyncio.sleep(interval)
        with contextlib.suppress(*REDIS_ERRORS):
            if repairs := await reconcile(line, interval):
                logger.warning(
                    "the line had to be repaired",
                    extra={"event": "line_repaired", "repairs": repairs},
                )


async def reconcile(line: UpkeepLine, interval: float) -> int:
    """Reconcile once; returns the number of repairs.

    Of all processes that call this every `interval` seconds, one does the work.
    """
    period = round(interval * 1000)
    if not await line.acquire_reconciliation(period):
        return 0
    accounts = await line.accounts_with_seats()
    repairs = 0
    for at in range(0, max(1, len(accounts)), _BATCH):
        repairs += await line.reconcile(2 * period, accounts[at : at + _BATCH])
    return repairs
