"""Ends, or gives back to the line, the jobs that nobody else will. Every process takes part."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.events import Failed
from wire.line.queue import Queue
from wire.redis.client import AWAY
from wire.seal import Seal
from wire.stream.endings import WAITED_TOO_LONG, end_lapsed, end_waiting

logger = logging.getLogger(__name__)

SLACK = 10.0
"""Seconds that a front end has, whose job's time is up, to see to it itself."""


async def keep_reaping(queue: Queue, seal: Seal, every: float) -> None:
    """Look for ever, `every` so many seconds."""
    while True:
        await asyncio.sleep(every)
        # Whoever comes next makes up for it; that Redis is away is said elsewhere.
        with contextlib.suppress(*AWAY):
            await reap(queue, seal)


async def reap(queue: Queue, seal: Seal) -> None:
    """Look once for leases, and waits, that should have ended.

    Of several callers one acts, whichever comes first.

    Raises:
        redis.RedisError: Redis is away; the next call makes up for it.
    """
    for id, fronts in await queue.overdue(SLACK):
        await end_waiting(queue, seal, id, fronts, WAITED_TOO_LONG)
    back, lapsed = await queue.reap()
    if back:
        logger.warning("%d jobs of a worker that died went back to their place", back)
    for job in lapsed:
        failed = Failed(
            "gateway_error",
            "The worker that held this conversation died, or could not renew its lease in time.",
            "worker_lost",
        )
        if job.cancelled:
            failed = Failed("cancelled", "The request was cancelled.", "cancelled")
        if await end_lapsed(queue, seal, job, failed) and not job.cancelled:
            logger.warning("a worker died in the middle of an answer (job %s)", job.id)
