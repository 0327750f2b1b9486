"""Memory budget for requests that have not been enqueued yet, and the order in which they get it.

An enqueued request counts towards `queue.max_bytes`; until then, the bytes that its client sends
and those that are fetched for it count here. They count as they arrive, so a client that announces
a large body, or sends slowly, takes nothing from others. When the budget is used up, requests that
need more wait, in order. Only the request that has the most continues: so one can always finish,
no two wait for each other, and the total is never more than the budget and the largest request.
"""

from __future__ import annotations

import asyncio

from app.openai.errors import TooManyLargeRequests


class Reservation:
    """Memory of one request, in `bytes`. It is released at the end of its context."""

    __slots__ = ("_budget", "_patience", "bytes", "waits")

    def __init__(self, budget: MemoryBudget, patience: float) -> None:
        self.bytes = 0
        self.waits = False
        """True while it waits for room; stays true if its task was cancelled meanwhile."""
        self._budget = budget
        self._patience = patience

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def grow(self, size: int) -> None:
        """Reserve `size` bytes in total, as soon as there is room for them.

        Raises:
            TooManyLargeRequests: there was no room in time.
        """
        if size <= self.bytes:
            return
        self.waits = not self._budget.try_grow(self, size)
        if self.waits:
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                async with asyncio.timeout(self._patience):
                    await self._budget.wait_to_grow(self, size)
            except TimeoutError:
                raise TooManyLargeRequests from None
            self._patience -= clock() - began
            self.waits = False

    def release(self, keep: int = 0) -> None:
        """Keep at most `keep` bytes."""
        if self.bytes > keep:
            self._budget.resize(self, keep)


class MemoryBudget:
    """Memory of `size` bytes. One request waits for it at most `patience` seconds in all."""

    def __init__(self, size: int, patience: float) -> None:
        self.left = size
        """Free bytes; negative while the largest request has more than were left."""
        self._patience = patience
        self._reserved: dict[Reservation, None] = {}  # those that are not empty
        self._waiting: dict[Reservation, tuple[int, asyncio.Future[None]]] = {}

    def reservation(self) -> Reservation:
        """Make an empty reservation for one request."""
        return Reservation(self, self._patience)

    def try_grow(self, reservation: Reservation, size: int) -> bool:
        """Let a reservation grow to `size` bytes if it may do so now."""
        has_room = not self._waiting and size - reservation.bytes <= self.left
        if has_room or self._largest(reservation) is reservation:
            self.resize(reservation, size)
            return True
        return False

    async def wait_to_grow(self, reservation: Reservation, size: int) -> None:
        """Let a reservation grow to `size` bytes once it may do so."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[reservation] = size, future
        try:
            await future
        finally:
            if self._waiting.pop(reservation, None):  # it gave up, with others behind it
                self._let_in()

    def resize(self, reservation: Reservation, size: int) -> None:
        """Set the size of a reservation, and let in those that have room now."""
        freed = reservation.bytes - size
        self.left += freed
        reservation.bytes = size
        if size:
            self._reserved[reservation] = None
        else:
            self._reserved.pop(reservation, None)
        if freed > 0:
            self._let_in()

    def _largest(self, default: Reservation) -> Reservation:
        return max(self._reserved, key=lambda reservation: reservation.bytes, default=default)

    def _let_in(self) -> None:
        while self._waiting:
            first = next(iter(self._waiting))
            size, _ = self._waiting[first]
            if size - first.bytes > self.left:
                largest = self._largest(first)
                if largest in self._waiting:
                    self._admit(largest)
                return
            self._admit(first)

    def _admit(self, reservation: Reservation) -> None:
        size, future = self._waiting.pop(reservation)
        if not future.done():  # its task may just have been cancelled
            self.resize(reservation, size)
            future.set_result(None)
