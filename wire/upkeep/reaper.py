"""Ends, or gives back to the line, the jobs that nobody else will. Every process takes part."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.events import Failed
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal
from wire.stream.endings import WAITED_TOO_LONG, end_waiting, finish_stalled

logger = logging.getLogger(__name__)

SLACK = 10.0
"""Seconds that a front end has, whose job's time is up, to see to it itself."""


async def keep_reaping(line: UpkeepLine, seal: Seal, every: float) -> None:
    """Look for ever, `every` so many seconds."""
    while True:
        await asyncio.sleep(every)
        # Whoever comes next makes up for it; that Redis is away is said elsewhere.
        with contextlib.suppress(*REDIS_ERRORS):
            await reap(line, seal)


async def reap(line: UpkeepLine, seal: Seal) -> None:
    """Look once for leases, and waits, that should have ended.

    Of several callers one acts, whichever comes first.

    Raises:
        redis.RedisError: Redis is away; the next call makes up for it.
    """
    for id, front_ends in await line.overdue(SLACK):
        await end_waiting(line, seal, id, front_ends, WAITED_TOO_LONG)
    requeued, stalled = await line.reap()
    if requeued:
        logger.warning("%d jobs of a worker that died went back to their place", requeued)
    for job in stalled:
        failed = Failed(
            "gateway_error",
            "The worker that held this conversation died, or could not renew its lease in time.",
            "worker_lost",
        )
        if job.cancelled:
            failed = Failed("cancelled", "The request was cancelled.", "cancelled")
        if await finish_stalled(line, seal, job, failed) and not job.cancelled:
            logger.warning("a worker died in the middle of an answer (job %s)", job.id)
