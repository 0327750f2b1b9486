"""Compares the line's leases, seats and places with its jobs, and has what differs put right.

In a healthy Redis nothing ever differs, as every script changes all of them together. After an
evicted key, or a failover that lost part of what was written, they may, and a slot would be lost
for good. One process looks, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.queue import Queue
from wire.redis import AWAY

logger = logging.getLogger(__name__)

BEATS = 20
"""Heartbeats between two looks."""


async def keep_reconciling(queue: Queue, heartbeat: float) -> None:
    """Look for ever."""
    every = BEATS * heartbeat
    while True:
        await asyncio.sleep(every)
        with contextlib.suppress(*AWAY):
            if repaired := await queue.reconcile(every):
                logger.warning("the line had to be repaired in %d places", repaired)
