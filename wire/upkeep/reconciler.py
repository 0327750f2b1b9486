"""Compares the line's leases, seats and places with its jobs, and repairs the differences.

In a healthy Redis there are none, because every script changes all of them together. After an
evicted key, or a failover that lost part of what was written, there may be, and a slot would be
lost for good. In each period one process reconciles, the first to try. Redis does nothing else
during a call, so each call compares only a part of the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import get_args

from wire.jobs import Sort
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS

logger = logging.getLogger(__name__)

BEATS = 20
"""Heartbeats between two reconciliations."""

KEYS = 50
"""Keys whose seats are compared in one call."""

PLACES = 200
"""Waiting jobs whose places are compared in one call."""

COUNTED = 2000
"""Jobs of the whole line up to which its counts are compared; they must be read in one call."""


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
    seated = await line.keys_with_seats()
    repairs = 0
    for at in range(0, max(1, len(seated)), KEYS):
        repairs += await line.reconcile_seats(seated[at : at + KEYS])
    for sort in get_args(Sort):
        repairs += await _reconcile_places(line, sort)
    repairs += await line.reconcile_counts(COUNTED)
    if repairs:
        await line.show_repairs(repairs, 2 * period)
    return repairs


async def _reconcile_places(line: UpkeepLine, sort: Sort) -> int:
    repairs, cursor = 0, "0"
    while True:
        cursor, made = await line.reconcile_places(sort, cursor, PLACES)
        repairs += made
        if cursor == "0":
            return repairs
