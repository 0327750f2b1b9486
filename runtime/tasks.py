"""Tasks that run beside something and end with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine


@contextlib.asynccontextmanager
async def background(*loops: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run endless loops for as long as the context lasts.

    A loop that fails is a bug and must not die in silence: it cancels what runs inside the context
    and its error leaves here in an ExceptionGroup.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            # Once is not always enough: see `wire.redis.client.Client`; pipelines and
            # subscriptions can lose a cancellation too.
            while any(not task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=0.1)
