"""One chat conversation: from a claimed job to its ending, under the deadlines of the settings."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from functools import partial

import settings
from runtime import tracing
from runtime.alarm import Alarm
from wire.events import Ending, Failed, is_ending
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from wire.tokens.job import JobTokens
from workers.upstream import J, Upstream, UpstreamError

logger = logging.getLogger(__name__)

# Each for the client and, with the name of the setting, for the log.
_NOT_BEGUN = (
    "The upstream did not begin to answer in time. Retry the request.",
    "no first event in time (first_event_timeout)",
)
_STOPPED = (
    "The upstream stopped in the middle of its answer. Retry the request.",
    "silence in the middle of an answer (idle_timeout)",
)
_TOO_LONG = (
    "The answer took longer than this gateway allows.",
    "the answer did not end in time (max_duration)",
)


async def hold_conversation(
    job: J,
    publication: Publication,
    upstream: Upstream[J],
    outbox: Outbox,
    limits: settings.Upstream,
    tokens: JobTokens,
) -> Ending:
    """Publish the upstream's answer and return its ending, which is not published.

    What is published is added to `tokens`.

    Raises:
        UpstreamBusy: nothing was published; the job should wait and be tried again.
        UpstreamError: nothing was published; `passing` is true if another try may succeed.
        Superseded: the attempt is not the current one any more.
        redis.RedisError: Redis was unreachable before anything was published.
    """
    with tracing.within("upstream", "client") as span:
        span.note({"upstream": publication.claim.upstream})
        try:
            return await _hold(job, publication, upstream, outbox, limits, tokens)
        finally:
            if publication.begun:
                span.mark("first_token", publication.began)


async def _hold(
    job: J,
    publication: Publication,
    upstream: Upstream[J],
    outbox: Outbox,
    limits: settings.Upstream,
    tokens: JobTokens,
) -> Ending:
    clock = asyncio.get_running_loop().time
    latest = clock() + limits.max_duration
    timeout = asyncio.timeout(None)
    deadline = Alarm(partial(timeout.reschedule, 0.0))
    deadline.set(min(clock() + limits.first_event_timeout, latest))
    ending: Ending | None = None
    try:
        async with timeout, aclosing(upstream.answer(job)) as batches:
            async for events in batches:
                last = events[-1] if events else None
                if is_ending(last):
                    ending, events = last, events[:-1]
                tokens.add(events)
                await outbox.publish(publication, events)
                # Empty batches also arrive while a file uploads.
                begun = publication.begun
                patience = limits.idle_timeout if begun else limits.first_event_timeout
                deadline.set(min(clock() + patience, latest))
    except TimeoutError:
        message, stage = (
            _TOO_LONG if clock() >= latest else _STOPPED if publication.begun else _NOT_BEGUN
        )
        logger.warning(
            "an upstream was too slow: %s",
            stage,
            extra={
                "event": "upstream_too_slow",
                "job": job.id,
                "upstream": publication.claim.upstream,
            },
        )
        ending = ending or Failed("upstream_timeout", message, "upstream_timeout")
    except UpstreamError as error:
        if not publication.begun:
            raise
        ending = error.failed
    finally:
        deadline.stop()
    return ending or Failed(
        "upstream_error", "The upstream ended without an answer. Retry the request.", "no_answer"
    )
