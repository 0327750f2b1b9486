"""Slots of a server, and the queue inside it, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

import msgspec

from simulator.openai.errors import ERRORS, RefusedError


class Stats(msgspec.Struct, frozen=True):
    """Counters of slots; docs/simulator-openai.md explains them."""

    active: int
    peak: int
    deferred: int
    peak_deferred: int
    started: int
    finished: int
    aborted: int


@dataclass
class _Tally:
    """Counters since a reset. A request counts for the tally in which it came."""

    peak: int = 0
    peak_deferred: int = 0
    started: int = 0
    finished: int = 0
    aborted: int = 0


@dataclass(eq=False)
class _Waiter:
    number: int
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Slots:
    """Slots of one kind. A request may take several, and waits until all of them are free."""

    def __init__(self, total: int, *, may_wait: int | None = None) -> None:
        self.total = total
        self._may_wait = may_wait
        self._taken = 0
        self._active = 0
        self._waiting: deque[_Waiter] = deque()
        self._tally = _Tally()

    async def take(self, number: int = 1) -> Hold:
        """Wait for slots: `with await slots.take() as hold`.

        Raises RefusedError if there are not as many, or too many requests wait already.
        """
        if number > self.total:
            raise RefusedError(ERRORS["no_slot"])
        waiter = _Waiter(number)
        self._waiting.append(waiter)
        self._wake()
        if not waiter.turn.is_set():
            await self._defer(waiter)
        return Hold(self, number, self._tally)

    async def _defer(self, waiter: _Waiter) -> None:
        if self._may_wait is not None and len(self._waiting) > self._may_wait:
            self._waiting.remove(waiter)
            raise RefusedError(ERRORS["vllm_busy"])
        self._tally.peak_deferred = max(self._tally.peak_deferred, len(self._waiting))
        try:
            await waiter.turn.wait()
        except asyncio.CancelledError:
            if waiter.turn.is_set():
                self.release(waiter.number)
            else:
                self._waiting.remove(waiter)
                self._wake()
            raise

    def release(self, number: int) -> None:
        """Free the slots of a request."""
        self._taken -= number
        self._active -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._taken + self._waiting[0].number <= self.total:
            waiter = self._waiting.popleft()
            self._taken += waiter.number
            self._active += 1
            self._tally.peak = max(self._tally.peak, self._taken)
            self._tally.started += 1
            waiter.turn.set()

    @property
    def taken(self) -> int:
        """Number of slots that are taken."""
        return self._taken

    @property
    def deferred(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    def stats(self) -> Stats:
        """Return the counters."""
        tally = self._tally
        return Stats(
            active=self._active,
            peak=tally.peak,
            deferred=self.deferred,
            peak_deferred=tally.peak_deferred,
            started=tally.started,
            finished=tally.finished,
            aborted=tally.aborted,
        )

    def reset(self) -> None:
        """Set all counters to zero. Requests that run end in the old tally."""
        self._tally = _Tally(peak=self._taken, peak_deferred=self.deferred)


class Hold:
    """Slots of one request. It ends once: finished by `finish`, or aborted by an exception."""

    def __init__(self, slots: Slots, number: int, tally: _Tally) -> None:
        self._slots = slots
        self._number = number
        self._tally = tally
        self._open = True

    def finish(self) -> None:
        """Free the slots at the end of the script."""
        if self._open:
            self._open = False
            self._tally.finished += 1
            self._slots.release(self._number)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        elif self._open:
            self._open = False
            self._tally.aborted += 1
            self._slots.release(self._number)
