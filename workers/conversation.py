"""One chat conversation: from a claimed job to its ending, under the deadlines of the settings."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import settings
from wire.events import Ending, Failed
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from workers.upstream import J, Upstream, UpstreamError

_NOT_BEGUN = "The upstream did not begin to answer in time. Retry the request."


async def hold_conversation(
    job: J,
    publication: Publication,
    upstream: Upstream[J],
    outbox: Outbox,
    limits: settings.Upstream,
) -> Ending:
    """Publish the upstream's answer and return its ending, which is not published.

    Raises:
        UpstreamBusy: nothing was published; the job should wait and be tried again.
        UpstreamError: nothing was published; `passing` is true if another try may succeed.
        Superseded: the attempt is not the current one any more.
        redis.RedisError: Redis was unreachable before anything was published.
    """
    clock = asyncio.get_running_loop().time
    started_at = clock()
    timeout_message = _NOT_BEGUN
    ending: Ending | None = None
    try:
        async with (
            asyncio.timeout(limits.first_event_timeout) as deadline,
            aclosing(upstream.answer(job)) as batches,
        ):
            async for events in batches:
                last = events[-1] if events else None
                if isinstance(last, Ending):
                    ending, events = last, events[:-1]
                await outbox.publish(publication, events)
                expires_at, timeout_message = _next_deadline(
                    clock(), started_at, publication.begun, limits
                )
                deadline.reschedule(expires_at)
    except TimeoutError:
        ending = ending or Failed("upstream_timeout", timeout_message, "upstream_timeout")
    except UpstreamError as error:
        if not publication.begun:
            raise
        ending = error.failed
    return ending or Failed(
        "upstream_error", "The upstream ended without an answer. Retry the request.", "no_answer"
    )


def _next_deadline(
    now: float, started_at: float, begun: bool, limits: settings.Upstream
) -> tuple[float, str]:
    """Return the time of the next time-out, and its message for the client."""
    # Empty batches also arrive while a file uploads.
    if begun:
        expires_at = now + limits.idle_timeout
        message = "The upstream stopped in the middle of its answer. Retry the request."
    else:
        expires_at = now + limits.first_event_timeout
        message = _NOT_BEGUN
    if expires_at > started_at + limits.max_duration:
        return started_at + limits.max_duration, "The answer took longer than this gateway allows."
    return expires_at, message
