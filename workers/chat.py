"""One chat conversation: from a claimed job to its ending, under the deadlines of the settings."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import settings
from wire.events import Ending, Failed
from wire.jobs import ChatJob
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from workers.upstream import Upstream, UpstreamError


async def converse(
    job: ChatJob,
    publication: Publication,
    upstream: Upstream,
    outbox: Outbox,
    limits: settings.Upstream,
) -> Ending:
    """Publish the upstream's answer and return its ending, which is not published.

    Raises:
        UpstreamBusy: nothing was published; the job should wait and be tried again.
        UpstreamError: nothing was published; the error says if another try may succeed.
        Superseded: the attempt is not the current one any more.
        redis.RedisError: Redis was unreachable before anything was published.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    late = "The upstream did not begin to answer in time."
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
                until = clock() + limits.first_event_timeout
                if publication.begun:  # and not only alive, as during the upload of a file
                    late = "The upstream stopped in the middle of its answer."
                    until = clock() + limits.idle_timeout
                if until > begun + limits.max_duration:
                    until = begun + limits.max_duration
                    late = "The answer took longer than this gateway allows."
                deadline.reschedule(until)
    except TimeoutError:
        ending = ending or Failed("upstream_timeout", late, code="upstream_timeout")
    except UpstreamError as error:
        if not publication.begun:
            raise
        ending = error.failed
    return ending or Failed("upstream_error", "The upstream ended without an answer.", "no_answer")
