"""One chat conversation: from a claimed job to its ending, under the deadlines of the settings."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import settings
from wire.events import Done, Ending, Failed
from wire.jobs import ChatJob
from wire.outbox import Answer, Outbox
from workers.upstream import Upstream, UpstreamError


async def converse(
    job: ChatJob, answer: Answer, upstream: Upstream, outbox: Outbox, limits: settings.Upstream
) -> Ending:
    """Let the upstream answer, publish what it says, and return how it ended (unpublished).

    Raises:
        UpstreamBusy: nothing was said; the job should wait and try again.
        Superseded: the attempt is not the current one any more.
        redis.RedisError: Redis was away before anything was said.
    """
    begun = time.monotonic()
    late = "the upstream did not begin to answer in time"
    try:
        async with asyncio.timeout(limits.first_event_timeout) as deadline:
            async with aclosing(upstream.answer(job)) as batches:
                async for events in batches:
                    if events:
                        if isinstance(events[-1], Done | Failed):
                            await outbox.say(answer, events[:-1])
                            return events[-1]
                        await outbox.say(answer, events)
                    late = "the upstream stopped in the middle of its answer"
                    idle_until = time.monotonic() + limits.idle_timeout
                    if idle_until > begun + limits.max_duration:
                        idle_until = begun + limits.max_duration
                        late = "the answer took longer than this gateway allows"
                    deadline.reschedule(idle_until)
    except TimeoutError:
        return Failed("upstream_timeout", late, code="upstream_timeout")
    except UpstreamError as error:
        return error.failed
    return Failed("upstream_error", "the upstream ended without an answer", code="no_answer")
