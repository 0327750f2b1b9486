"""Background tasks that end with the context that runs them, and tasks of which one is enough."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

_Error = TypeVar("_Error", bound=Exception)
_Result = TypeVar("_Result")


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


def find_error(error: BaseException, kind: type[_Error]) -> _Error | None:
    """Find an error of this kind: `error` itself, or one in the groups that `background` raises."""
    if isinstance(error, kind):
        return error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next(filter(None, (find_error(each, kind) for each in inner)), None)


async def first_of(*awaited: Coroutine[object, object, _Result]) -> _Result:
    """Return or raise the result of the first one that ends; cancel the others."""
    tasks = [asyncio.create_task(each) for each in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
