"""What comes of an attempt: its job's one ending, or its way back into the line.

Whatever it is, it is said again and again while Redis is away. What cannot be said within
`settings.redis.outage_grace` is left to whoever finds that the attempt's lease has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
from redis.exceptions import RedisError

from runtime.logs import describe_traceback
from settings import Settings
from store.blobs import Blobs
from store.media import MediaError
from wire.events import Ending, Failed
from wire.jobs import Family
from wire.line.claims import Claim, Requeued
from wire.line.worker import WorkerLine
from wire.redis.outage import REDIS_ERRORS, retry
from wire.seal import Seal, SealError
from wire.stream.endings import end_waiting
from wire.stream.outbox import Outbox, Superseded
from workers.attempt import Attempt
from workers.upstream import UpstreamBusy, UpstreamError

logger = logging.getLogger(__name__)

SHORTEST_REST, LONGEST_REST = 5.0, 60.0
"""Seconds that an account rests after the upstream called it busy, the first time and at most."""

RETRY_PAUSE, LONGEST_RETRY_PAUSE = 0.5, 10.0
"""Seconds, about, before a job is tried again that the upstream failed: the first, and at most."""

CANCELLED = Failed("cancelled", "The request was cancelled.", code="cancelled")
STOPPED = Failed(
    "gateway_error", "The worker that held this conversation was stopped.", "worker_stopped"
)

_P = ParamSpec("_P")
_Said = TypeVar("_Said")


class Settlement:
    """Settles the attempts of one worker. With its ending goes what a job has among the `blobs`."""

    def __init__(
        self, line: WorkerLine, outbox: Outbox, seal: Seal, blobs: Blobs | None, config: Settings
    ) -> None:
        self._line = line
        self._outbox = outbox
        self._seal = seal
        self._blobs = blobs
        self._config = config

    async def settle(self, attempt: Attempt, conversation: asyncio.Task[Ending]) -> None:
        """Settle an attempt whose conversation is over, or was stopped."""
        if conversation.cancelled():
            await self._settle_stopped(attempt)
            return
        job = attempt.claim.id
        match conversation.exception():
            case None:
                await self._settle_ended(attempt, conversation.result())
            case UpstreamBusy():
                logger.info("job %s: its account is busy upstream", job)
                await self._put_back(attempt, self._line.cool_down, SHORTEST_REST, LONGEST_REST)
            case UpstreamError() as error:
                await self._settle_refused(attempt, error)
            case Superseded():
                pass  # the current attempt is for somebody else to settle
            case RedisError() as error:
                logger.warning("job %s goes back, Redis is away: %s", job, type(error).__name__)
                await self._put_back(attempt, self._line.requeue)
            case error:
                await self._settle_ended(attempt, _own_fault(job, error))

    async def _settle_stopped(self, attempt: Attempt) -> None:
        match attempt.stopped:
            case "cancel":
                await self.end(attempt, CANCELLED)
            case "drain" if attempt.answer.begun:
                await self.end(attempt, STOPPED)
            case "drain":
                await self._put_back(attempt, self._line.requeue)
            case "lost" | None:
                pass  # whoever finds its lease lapsed settles it

    async def _settle_ended(self, attempt: Attempt, ending: Ending) -> None:
        late = False
        if isinstance(ending, Failed):
            _log_failure(attempt, ending)
            late = ending.fault == "upstream_timeout"
        await self.end(attempt, ending, upstream_failed=late)

    async def _settle_refused(self, attempt: Attempt, error: UpstreamError) -> None:
        """Settle an attempt that the upstream refused, or failed, before it said anything."""
        claim, failed = attempt.claim, error.failed
        if error.capped_for is not None:
            logger.info("job %s: its account has used up this family of models", claim.id)
            await self._put_back(attempt, self._line.park, error.capped_for)
            waits = self._config.queue.on_model_cap == "wait"
            within = error.capped_for if waits else math.inf
            await self._end_waiting(claim.account, claim.family, failed, within)
            return
        if error.passing and await self._retried(attempt):
            logger.info("job %s is tried again: %s", claim.id, failed.code or failed.fault)
            return
        _log_failure(attempt, failed)
        if failed.fault == "unauthorized":
            # Before the seat is free: the next would be sent in vain.
            await self._end_waiting(claim.account, None, failed)
        await self.end(attempt, failed, upstream_failed=error.passing)

    async def _retried(self, attempt: Attempt) -> bool:
        """Put a job back to be tried again. False: it is to be ended instead."""
        pause = RETRY_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311 - not all at once
        how = (pause, LONGEST_RETRY_PAUSE, self._config.upstream.retries)
        said = await self._insist(attempt, partial(self._line.retry, attempt.claim, *how))
        return said not in ("cancelled", "exhausted")

    async def _put_back(
        self,
        attempt: Attempt,
        put_back: Callable[Concatenate[Claim, _P], Awaitable[Requeued]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Let a job wait again, or end it if it was cancelled in the meantime."""
        said = await self._insist(attempt, partial(put_back, attempt.claim, *args, **kwargs))
        if said == "cancelled":
            await self.end(attempt, CANCELLED)

    async def end(self, attempt: Attempt, ending: Ending, *, upstream_failed: bool = False) -> None:
        """Give a job its ending, if this attempt is the current one."""
        end = partial(self._outbox.end, attempt.answer, ending, upstream_failed=upstream_failed)
        # Its front end does that too, if it lives. Another attempt would need them.
        if await self._insist(attempt, end) and attempt.held and self._blobs is not None:
            await self._blobs.remove(attempt.held)

    async def _end_waiting(
        self, account: str, family: Family | None, failed: Failed, within: float = math.inf
    ) -> None:
        """End what waits for an account in vain: all, or what has no more than so many seconds.

        What Redis does not hear of finds out itself.
        """
        with contextlib.suppress(*REDIS_ERRORS):
            ended = True
            while ended:
                ended = False
                for job, front_ends in await self._line.waiting_of(account, family, within):
                    ended |= await end_waiting(self._line, self._seal, job, front_ends, failed)

    async def _insist(self, attempt: Attempt, say: Callable[[], Awaitable[_Said]]) -> _Said | None:
        """Say what comes of an attempt, within the grace. The answer; None if there was none."""
        try:
            return await retry(say, self._config.redis.outage_grace)
        except TimeoutError:
            logger.error("job %s could not be ended, Redis is away", attempt.claim.id)
            return None


def _log_failure(attempt: Attempt, failed: Failed) -> None:
    logger.warning("job %s failed: %s", attempt.claim.id, failed.code or failed.fault)


def _own_fault(job: str, error: BaseException) -> Failed:
    """What the client is told of an error that is neither its own nor the upstream's."""
    match error:
        case SealError() | msgspec.MsgspecError():
            logger.error("job %s cannot be read: %s", job, error)
            message = "This worker cannot read the request."
            return Failed("gateway_error", message, "unreadable_job")
        case MediaError():
            logger.error("job %s cannot be had from media.store: %s", job, error)
            return Failed("gateway_error", "Part of the request was lost.", "file_lost")
        case _:
            logger.error("job %s met a bug: %s", job, describe_traceback(error))
            message = "Something went wrong inside the gateway."
            return Failed("gateway_error", message, "internal_error")
