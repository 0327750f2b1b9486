"""Calls that many requests make together: thousands of clients may wait, or leave at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

AT_ONCE = 20
"""Results that are set in one turn of the event loop, since each wakes a request."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches(Generic[_Item, _Result]):
    """Gathers items for `pause` seconds, and makes calls for up to `size` of them, one at a time.

    `call` takes some items and returns a result for each, in order. Items of the same `group`
    follow each other: the call has most of its work in common for them.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]],
        size: int,
        pause: float,
        group: Callable[[_Item], str],
    ) -> None:
        self._call = call
        self._size = size
        self._pause = pause
        self._group = group
        self._items: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, item: _Item) -> asyncio.Future[_Result]:
        """Add an item to one of the next calls; return its future result."""
        future = asyncio.get_running_loop().create_future()
        self._items.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def finish(self, timeout: float) -> None:
        """Wait until all calls are made; after `timeout` seconds, cancel the rest."""
        if (task := self._task) is not None:
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        gathered: list[tuple[_Item, asyncio.Future[_Result]]] = []
        try:
            while self._items:
                await asyncio.sleep(self._pause)
                gathered = sorted(self._items, key=lambda added: self._group(added[0]))
                self._items = []
                for at in range(0, len(gathered), self._size):
                    await self._make(gathered[at : at + self._size])
        finally:
            self._task = None
            for _, future in gathered + self._items:
                future.cancel()  # does nothing if it has a result

    async def _make(self, batch: Sequence[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        try:
            results = await self._call([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for number, ((_, future), result) in enumerate(zip(batch, results, strict=True), 1):
                if not future.done():
                    future.set_result(result)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
