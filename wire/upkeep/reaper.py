"""Requeues or finishes jobs whose lease expired or whose wait is over. Every process takes part."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from wire.events import Failed
from wire.jobs import decode_job
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal, SealError
from wire.stream.endings import CANCELLED, WAITED_TOO_LONG, finish_stalled, finish_waiting

logger = logging.getLogger(__name__)

SLACK = 10.0
"""Seconds after a job's deadline in which only its own front end finishes it."""

WORKER_LOST = Failed(
    "gateway_error", "The worker handling this request was lost. Retry the request.", "worker_lost"
)


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
        key = await _key(line, seal, id)
        if await finish_waiting(line, seal, id, front_ends, WAITED_TOO_LONG):
            _log("a job waited too long", "waited_too_long", id, key)
    requeued, stalled = await line.reap()
    if requeued:
        logger.warning(
            "jobs of a dead worker were requeued",
            extra={"event": "jobs_requeued", "reason": "worker_lost", "jobs": requeued},
        )
    for job in stalled:
        key = await _key(line, seal, job.id)
        failed = CANCELLED if job.cancelled else WORKER_LOST
        if await finish_stalled(line, seal, job, failed) and not job.cancelled:
            _log("a lease expired in the middle of an answer", "worker_lost", job.id, key)


async def _key(line: UpkeepLine, seal: Seal, id: str) -> str:
    """Return the fingerprint of an unfinished job's key; "unknown" if the job cannot be read."""
    try:
        job = decode_job(seal.open(await line.body(id), f"job {id}"))
    except (SealError, msgspec.MsgspecError):
        return "unknown"
    return job.key


def _log(sentence: str, reason: str, job: str, key: str) -> None:
    fields = {"event": "job_failed", "job": job, "key": key, "reason": reason}
    logger.warning(sentence, extra=fields)
