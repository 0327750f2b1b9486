"""Settlement of attempts: each finishes its job, once, or requeues it.

While Redis is unreachable a settlement is repeated. If that does not succeed within
`settings.redis.outage_grace`, the job is left to the process that finds its lease expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar, get_args

import msgspec
from redis.exceptions import RedisError

from runtime.log_lines import describe_traceback
from settings import Settings
from store.blobs import Blobs
from store.objects import StoreError
from wire.events import Complete, Ending, Failed
from wire.jobs import Sort, is_pool
from wire.line.claims import Claim, Requeued
from wire.line.offers import AsideReason
from wire.line.usage import NO_TOKENS
from wire.line.worker import WorkerLine
from wire.redis.outage import REDIS_ERRORS, retry
from wire.redis.trouble import address_of, trouble
from wire.seal import Seal, SealError
from wire.stream.endings import CANCELLATIONS, CANCELLED, end_state, finish_waiting
from wire.stream.outbox import Outbox, Superseded
from workers.attempt import Attempt
from workers.served import AnyServed
from workers.upstream import UpstreamBusy, UpstreamError

logger = logging.getLogger(__name__)

REFUSED_US_PAUSE = 15.0
"""Seconds after which an account whose credential the upstream refused is tried again."""

RETRY_PAUSE, LONGEST_RETRY_PAUSE = 0.5, 10.0
"""Seconds, about, before a job that the upstream failed is tried again: the first time, at most."""

AT_ONCE = 500
"""Waiting jobs that are looked at in one call."""

OF_ONE_ACCOUNT = ("account_deactivated", "expired_session_key", "token_expired")
"""Codes of refusals that concern one account of a pool. Its other accounts may still answer."""

STOPPED = Failed(
    "gateway_error",
    "The worker that held this conversation was stopped. Retry the request.",
    "worker_stopped",
)

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


class Settlement:
    """Settles the attempts of one worker. A job's `blobs` are removed with its ending."""

    def __init__(
        self,
        line: WorkerLine,
        upstreams: Mapping[str, AnyServed],
        outbox: Outbox,
        seal: Seal,
        blobs: Blobs | None,
        config: Settings,
    ) -> None:
        self._line = line
        self._upstreams = upstreams
        self._outbox = outbox
        self._seal = seal
        self._blobs = blobs
        self._config = config

    async def settle(self, attempt: Attempt, conversation: asyncio.Task[Ending]) -> None:
        """Settle an attempt whose conversation has ended or was stopped."""
        if conversation.cancelled():
            await self._settle_stopped(attempt)
            return
        job = attempt.claim.id
        match conversation.exception():
            case None:
                await self._settle_ended(attempt, conversation.result())
            case UpstreamBusy() as busy:
                await self._settle_busy(attempt, busy)
            case UpstreamError() as error:
                await self._settle_refused(attempt, error)
            case Superseded():
                pass  # another process settles the current attempt
            case RedisError() as error:
                logger.warning(
                    "a job is requeued, Redis is unavailable: %s",
                    trouble(error),
                    extra={"event": "requeued", "job": job} | address_of(error),
                )
                await self._requeue(attempt, self._line.requeue)
            case error:
                await self._settle_ended(attempt, _own_fault(job, error))

    async def _settle_stopped(self, attempt: Attempt) -> None:
        match attempt.stopped:
            case "cancel" | "revoked" | "operator" as cancelled:
                await self.finish(attempt, CANCELLATIONS[cancelled])
            case "drain" if attempt.publication.begun:
                await self.finish(attempt, STOPPED)
            case "drain":
                await self._requeue(attempt, self._line.requeue)
            case "lost" | None:
                pass  # the process that finds its lease expired settles it

    async def _settle_ended(self, attempt: Attempt, ending: Ending) -> None:
        late = False
        if isinstance(ending, Failed):
            _log_failure(attempt, ending)
            late = ending.fault == "upstream_timeout"
            if late and await self._left_to_another(attempt, ending):
                return
        elif isinstance(ending, Complete) and ending.pause and not attempt.claim.on_own_account:
            # Before its slot is free: the next job would be refused.
            await self._insist(
                attempt, partial(self._line.hold_account, attempt.claim, ending.pause)
            )
        await self.finish(attempt, ending, upstream_failed=late)

    async def _left_to_another(self, attempt: Attempt, late: Failed) -> bool:
        """Requeue a job of which an upstream said nothing in time, if others may serve it."""
        if attempt.publication.begun or attempt.claim.on_own_account:
            return False
        return await self._retried(attempt, UpstreamError(late, passing=True, retries=1))

    async def _settle_busy(self, attempt: Attempt, busy: UpstreamBusy) -> None:
        claim = attempt.claim
        if busy.aside and self._upstreams[claim.upstream].accounts:
            await self._set_aside(attempt, busy.aside, busy.pause)
            return
        fields = {"job": claim.id, "upstream": claim.upstream}
        if busy.refused_us:
            logger.error(
                "the upstream %s refused our credential: jobs wait until it accepts one",
                claim.upstream,
                extra={"event": "upstream_refused_us"} | fields,
            )
        else:
            logger.info("an account is busy upstream", extra={"event": "busy"} | fields)
        rests = self._upstreams[claim.upstream].rests
        pause = REFUSED_US_PAUSE if busy.refused_us else busy.pause
        await self._requeue(attempt, self._line.cool_down, *rests, pause)

    async def _settle_refused(self, attempt: Attempt, error: UpstreamError) -> None:
        """Settle an attempt that the upstream refused or failed before anything was published."""
        claim, failed = attempt.claim, error.failed
        if error.capped_for is not None:
            logger.info(
                "an account has used up a family of models",
                extra={"event": "parked", "job": claim.id, "seconds": round(error.capped_for)},
            )
            await self._requeue(attempt, self._line.park, error.capped_for)
            if not claim.on_own_account:
                await self._finish_spent(claim, failed)
                return
            waits = self._config.queue.on_model_cap == "wait"
            within = error.capped_for if waits else math.inf
            await self._finish_waiting(claim.key, claim.family, failed, within)
            return
        if not claim.on_own_account and await self._left_to_other_accounts(attempt, failed):
            return
        if error.passing and await self._retried(attempt, error):
            logger.info("a job is tried again", extra=_fields(attempt, failed, "retried"))
            return
        _log_failure(attempt, failed)
        if failed.fault == "unauthorized" and not _is_of_one_account(attempt, failed):
            # Before the seat is free: the next job would fail as well.
            await self._insist(attempt, partial(self._line.refuse, claim))
            await self._finish_waiting(claim.key, None, failed)
        await self.finish(attempt, failed, upstream_failed=error.passing and not error.doubtful)

    async def _left_to_other_accounts(self, attempt: Attempt, failed: Failed) -> bool:
        """Requeue a job if the upstream refused an account of the operator's. False: it did not."""
        if failed.fault == "unauthorized" and not _is_of_one_account(attempt, failed):
            deactivated = failed.code == "account_deactivated"
            reason: AsideReason = "deactivated" if deactivated else "token_refused"
            await self._set_aside(attempt, reason, failed.retry_after or 0.0)
        elif failed.fault in ("unauthorized", "rate_limited"):
            await self._settle_busy(attempt, UpstreamBusy(failed.retry_after or 0.0))
        else:
            return False
        return True

    async def _set_aside(self, attempt: Attempt, reason: AsideReason, pause: float) -> None:
        claim = attempt.claim
        logger.warning(
            "the upstream refuses an account, which is set aside: %s",
            claim.account,
            extra={"event": "account_set_aside", "account": claim.account, "reason": reason},
        )
        token = self._seal.name("token", attempt.token.reveal())
        await self._requeue(attempt, self._line.set_aside, reason, token, pause)

    async def _finish_spent(self, claim: Claim, failed: Failed) -> None:
        """Fail the waiting jobs for a model that all accounts have used up for longer than these
        jobs may wait, if the operator wants that.

        If Redis is unreachable they fail later on their own.
        """
        if self._config.queue.on_model_cap == "wait":
            return
        _, _, model = claim.lane.partition(":")
        with contextlib.suppress(*REDIS_ERRORS):
            for sort in get_args(Sort):
                await self._finish_spent_of(f"{sort}:{model}", failed)

    async def _finish_spent_of(self, lane: str, failed: Failed) -> None:
        offset = 0
        while True:
            seen, found = await self._line.spent_jobs(lane, offset, AT_ONCE)
            if not seen:
                return
            for job, front_ends in found:
                await finish_waiting(self._line, self._seal, job, front_ends, failed)
            offset += seen - len(found)

    async def _retried(self, attempt: Attempt, error: UpstreamError) -> bool:
        """Requeue a job to be tried again. False: it must be finished instead."""
        limit = self._upstreams[attempt.claim.upstream].limits.retries
        if error.retries is not None:
            limit = min(limit, error.retries)
        pause = RETRY_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries
        call = partial(self._line.retry, attempt.claim, pause, LONGEST_RETRY_PAUSE, limit)
        attempt.span.note({"ending": "requeued", "reason": error.failed.code or "retry"})
        result = await self._insist(attempt, partial(call, doubtful=error.doubtful))
        return result in ("requeued", "not_current", None)

    async def _requeue(
        self,
        attempt: Attempt,
        requeue: Callable[Concatenate[Claim, _P], Awaitable[Requeued]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Requeue a job, or finish it if it was cancelled meanwhile."""
        attempt.span.note({"ending": "requeued", "reason": getattr(requeue, "__name__", "")})
        result = await self._insist(attempt, partial(requeue, attempt.claim, *args, **kwargs))
        match result:
            case "cancelled":
                await self.finish(attempt, CANCELLED)
            case "revoked" | "operator":
                await self.finish(attempt, CANCELLATIONS[result])

    async def finish(
        self, attempt: Attempt, ending: Ending, *, upstream_failed: bool = False
    ) -> None:
        """Finish a job, if this attempt is the current one."""
        tokens = await attempt.tokens.count(ending) if attempt.tokens else NO_TOKENS
        call = partial(
            self._outbox.finish,
            attempt.publication,
            ending,
            upstream_failed=upstream_failed,
            tokens=tokens,
        )
        # The front end removes them too, if it lives. Another attempt would need them.
        if not await self._insist(attempt, call):
            return
        state = {"job": attempt.claim.id, "key": attempt.key, "state": end_state(ending)}
        logger.debug("a job has finished", extra={"event": "job_finished"} | state)
        used = {"input_tokens": tokens.input, "output_tokens": tokens.output}
        attempt.span.note(used)
        attempt.span.note({"ending": state["state"]})
        if isinstance(ending, Failed):
            attempt.span.fail(ending.code or ending.fault)
        if attempt.blob_keys and self._blobs is not None:
            await self._blobs.remove(attempt.blob_keys)

    async def _finish_waiting(
        self, key: str, family: str | None, failed: Failed, within: float = math.inf
    ) -> None:
        """Fail a key's waiting jobs: all, or those whose deadline is `within` seconds.

        If Redis is unreachable they fail later on their own.
        """
        with contextlib.suppress(*REDIS_ERRORS):
            any_finished = True
            while any_finished:
                any_finished = False
                for job, front_ends in await self._line.waiting_jobs(key, family, within):
                    any_finished |= await finish_waiting(
                        self._line, self._seal, job, front_ends, failed
                    )

    async def _insist(
        self, attempt: Attempt, call: Callable[[], Awaitable[_Result]]
    ) -> _Result | None:
        """Return the result of a call to Redis, repeated within the grace; None without one."""
        try:
            return await retry(call, self._config.redis.outage_grace)
        except TimeoutError:
            logger.error(
                "a job could not be settled, Redis is unreachable",
                extra={"event": "not_settled", "job": attempt.claim.id, "key": attempt.key},
            )
            return None


def _is_of_one_account(attempt: Attempt, failed: Failed) -> bool:
    """Return True for a refusal of one account of a pool."""
    return is_pool(attempt.token.reveal()) and failed.code in OF_ONE_ACCOUNT


def _log_failure(attempt: Attempt, failed: Failed) -> None:
    logger.warning("a job failed", extra=_fields(attempt, failed, "job_failed"))


def _fields(attempt: Attempt, failed: Failed, event: str) -> dict[str, str]:
    reason = failed.code or failed.fault
    return {"event": event, "job": attempt.claim.id, "key": attempt.key, "reason": reason}


def _own_fault(job: str, error: BaseException) -> Failed:
    """Map an error that is neither the client's nor the upstream's to the job's ending."""
    match error:
        case SealError() | msgspec.MsgspecError():
            fields = {"event": "job_unreadable", "job": job}
            logger.error("a job cannot be read: %s", error, extra=fields)
            message = "This worker cannot read the request."
            return Failed("gateway_error", message, "unreadable_job")
        case StoreError():
            fields = {"event": "blob_lost", "job": job}
            logger.error("a blob cannot be read from media.store: %s", error, extra=fields)
            return Failed("gateway_error", "Part of the request was lost.", "file_lost")
        case _:
            fields = {"event": "internal_error", "job": job}
            logger.error(
                "a job failed because of a bug: %s", describe_traceback(error), extra=fields
            )
            message = "Something went wrong inside the gateway."
            return Failed("gateway_error", message, "internal_error")
