"""Requeues or finishes jobs whose lease expired or whose wait is over. Every process takes part."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.events import Failed
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal
from wire.stream.endings import CANCELLED, WAITED_TOO_LONG, finish_stalled, finish_waiting

logger = logging.getLogger(__name__)

SLACK = 10.0
"""Seconds after a job's deadline in which only its own front end finishes it."""


async def keep_reaping(line: UpkeepLine, seal: Seal, interval: float) -> None:
    """Run `reap` every `interval` seconds, forever."""
    while True:
        await asyncio.sleep(interval)
        # The next call does the work; other tasks log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            await reap(line, seal)


async def reap(line: UpkeepLine, seal: Seal) -> None:
    """Find expired leases and missed deadlines once.

    Of several callers, the first one acts.

    Raises:
        redis.RedisError: Redis is unreachable; the next call does the work.
    """
    for id, front_ends in await line.overdue(SLACK):
        await finish_waiting(line, seal, id, front_ends, WAITED_TOO_LONG)
    requeued, stalled = await line.reap()
    if requeued:
        logger.warning(
            "jobs of a dead worker were requeued",
            extra={"event": "jobs_requeued", "reason": "worker_lost", "jobs": requeued},
        )
    for job in stalled:
        failed = Failed(
            "gateway_error",
            "The worker handling this request was lost. Retry the request.",
            "worker_lost",
        )
        if job.cancelled:
            failed = CANCELLED
        if await finish_stalled(line, seal, job, failed) and not job.cancelled:
            logger.warning(
                "a lease expired in the middle of an answer",
                extra={"event": "worker_lost", "job": job.id},
            )
