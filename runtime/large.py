"""Work on large requests, in a thread: an event loop serves all other jobs meanwhile.

There is one thread, so that the memory that such work takes meanwhile is taken once, however many
large requests arrive. A thread is not enough by itself, since no other runs during a single call of
native code: so the size of everything that is decoded, encoded or sealed by one call is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")

LARGE = 64 * 1024
"""Bytes. Work on fewer takes at most a few milliseconds."""


async def work_on(size: int, work: Callable[[], T]) -> T:
    """Do some work on `size` bytes of a request: in the thread, if they are many."""
    if size <= LARGE:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread(), work)


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "large-requests")
