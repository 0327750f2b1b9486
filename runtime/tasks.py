"""Background tasks that end with the context that runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine


@contextlib.asynccontextmanager
async def background(*loops: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run endless loops for as long as the context lasts.

    A loop that fails is a bug and must not fail silently: it cancels the body of the context, which
    then raises the error in an ExceptionGroup.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            # Once is not always enough: pipelines and subscriptions of redis-py can lose a
            # cancellation (see `wire.redis.client.Redis`).
            while any(not task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=0.1)
