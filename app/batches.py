"""Calls that many requests make together: thousands of clients may wait, or leave at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches(Generic[_Item, _Result]):
    """Makes one call at a time for up to `size` items, the items of `pause` seconds together.

    `call` takes the items and returns a result for each, in order.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]],
        size: int,
        pause: float,
    ) -> None:
        self._call = call
        self._size = size
        self._pause = pause
        self._items: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, item: _Item) -> asyncio.Future[_Result]:
        """Add an item to the next call that has room; return its future result."""
        future = asyncio.get_running_loop().create_future()
        self._items.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def finish(self, timeout: float) -> None:
        """Wait until all calls are made, and give up the rest after `timeout` seconds."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)
            if self._task is not None:
                self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._items:
                if len(self._items) < self._size:
                    await asyncio.sleep(self._pause)
                batch, self._items = self._items[: self._size], self._items[self._size :]
                await self._make(batch)
        finally:
            self._task = None

    async def _make(self, batch: Sequence[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        try:
            results = await self._call([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
