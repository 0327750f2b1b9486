"""The bytes that a front end holds for requests that are not in line yet, and whose turn it is.

Once in line, a request counts for `queue.max_bytes`; until then, what its client sends and what is
fetched for it counts here. It counts as it comes, so who announces much, or sends slowly, takes
nothing from others. When all is taken, whoever brings more waits, in order. Only whoever holds the
most goes on: so one can always finish, nobody waits for each other, and never is more held than the
budget and the largest request.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from app.openai.errors import Crowded


class Charge:
    """What one request holds, in `bytes`. On leaving its context, that is nothing."""

    __slots__ = ("_budget", "_patience", "bytes", "waits")

    def __init__(self, budget: Budget, patience: float) -> None:
        self.bytes = 0
        self.waits = False
        """Whether it waits for room; or did, when its task was cancelled."""
        self._budget = budget
        self._patience = patience

    def __enter__(self) -> Charge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()

    async def hold(self, size: int) -> None:
        """Hold this many bytes in all, as soon as there is room for them.

        Raises:
            Crowded: there was none in time.
        """
        if size <= self.bytes:
            return
        self.waits = not self._budget.grant(self, size)
        if self.waits:
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                async with asyncio.timeout(self._patience):
                    await self._budget.granted(self, size)
            except TimeoutError:
                raise Crowded from None
            self._patience -= clock() - began
            self.waits = False

    def give_back(self, keep: int = 0) -> None:
        """Hold no more than `keep` bytes from now on."""
        if self.bytes > keep:
            self._budget.change(self, keep)


class Budget:
    """Room for `size` bytes. One request waits for it at most `patience` seconds in all."""

    def __init__(self, size: int, patience: float) -> None:
        self.left = size
        """The bytes that are free; below zero while the largest request has more than were left."""
        self._patience = patience
        self._held: dict[Charge, None] = {}  # those that hold something
        self._waiting: dict[Charge, tuple[int, asyncio.Future[None]]] = {}

    def charge(self) -> Charge:
        """For one request, which holds nothing yet."""
        return Charge(self, self._patience)

    def grant(self, charge: Charge, size: int) -> bool:
        """Let a request hold this many bytes, if that may be now."""
        has_room = not self._waiting and size - charge.bytes <= self.left
        if has_room or self._largest(charge) is charge:
            self.change(charge, size)
            return True
        return False

    async def granted(self, charge: Charge, size: int) -> None:
        """Wait until it may be."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[charge] = size, future
        try:
            await future
        finally:
            if self._waiting.pop(charge, None):  # it has given up, and others stood behind it
                self._let_in()

    def change(self, charge: Charge, size: int) -> None:
        """Let a request hold this many bytes."""
        freed = charge.bytes - size
        self.left += freed
        charge.bytes = size
        if size:
            self._held[charge] = None
        else:
            self._held.pop(charge, None)
        if freed > 0:
            self._let_in()

    def _largest(self, otherwise: Charge) -> Charge:
        return max(self._held, key=lambda charge: charge.bytes, default=otherwise)

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

    def _admit(self, charge: Charge) -> None:
        size, future = self._waiting.pop(charge)
        if not future.done():  # its task may have been cancelled a moment ago
            self.change(charge, size)
            future.set_result(None)
