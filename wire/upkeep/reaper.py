"""Requeues or finishes jobs whose lease expired or whose wait is over. Every process takes part."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from wire.events import Failed
from wire.jobs import Job, decode_job
from wire.line.upkeep import UpkeepLine
from wire.line.usage import NO_TOKENS, Tokens
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal, SealError
from wire.stream import log
from wire.stream.channel import Channel
from wire.stream.endings import (
    CANCELLATIONS,
    WAITED_TOO_LONG,
    finish_stalled,
    finish_waiting,
)
from wire.tokens.job import JobTokens

logger = logging.getLogger(__name__)

SLACK = 10.0
"""Seconds after a job's deadline in which only its own front end finishes it."""

WORKER_LOST = Failed(
    "gateway_error", "The worker handling this request was lost. Retry the request.", "worker_lost"
)


async def keep_reaping(line: UpkeepLine, channel: Channel, seal: Seal, interval: float) -> None:
    """Run `reap` every `interval` seconds, forever."""
    while True:
        await asyncio.sleep(interval)
        # The next call does the work; other tasks log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            await reap(line, channel, seal)


async def reap(line: UpkeepLine, channel: Channel, seal: Seal) -> None:
    """Find expired leases and missed deadlines once.

    Of several callers, the first one acts.

    Raises:
        redis.RedisError: Redis is unreachable; the next call does the work.
    """
    for id, front_ends in await line.overdue(SLACK):
        request = await _request(line, seal, id)
        if await finish_waiting(line, seal, id, front_ends, WAITED_TOO_LONG):
            _log("a job waited too long", "waited_too_long", id, request)
    requeued, stalled = await line.reap()
    if requeued:
        logger.warning(
            "jobs of a dead worker were requeued",
            extra={"event": "jobs_requeued", "reason": "worker_lost", "jobs": requeued},
        )
    for job in stalled:
        request = await _request(line, seal, job.id)
        tokens = await _logged_tokens(channel, seal, job.id, request) if request else NO_TOKENS
        failed = CANCELLATIONS[job.cancelled] if job.cancelled else WORKER_LOST
        if await finish_stalled(line, seal, job, failed, tokens) and not job.cancelled:
            _log("a lease expired in the middle of an answer", "worker_lost", job.id, request)


async def _request(line: UpkeepLine, seal: Seal, id: str) -> Job | None:
    """Return the request of an unfinished job; None if it cannot be read."""
    try:
        return decode_job(seal.open(await line.body(id), f"job {id}"))
    except (SealError, msgspec.MsgspecError):
        return None


async def _logged_tokens(channel: Channel, seal: Seal, id: str, request: Job) -> Tokens:
    """Return the tokens of an answer as far as it is in its log; none if it had not begun."""
    tokens, after, seen = JobTokens(request), "", 0
    with contextlib.suppress(SealError, msgspec.MsgspecError):
        while entries := await log.read(channel, seal, id, after):
            for _, batch in entries:
                tokens.add(batch.events[max(0, seen - batch.first) :])  # some are logged twice
                seen = max(seen, batch.first + len(batch.events))
            after = entries[-1].position
    return await tokens.count()


def _log(sentence: str, reason: str, job: str, request: Job | None) -> None:
    key = request.key if request else "unknown"
    fields = {"event": "job_failed", "job": job, "key": key, "reason": reason}
    logger.warning(sentence, extra=fields)
