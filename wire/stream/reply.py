"""The events of one job on their way to one reader: each once and in order, an ending last.

Pub/sub loses messages and the log repeats them. A reply goes by their numbers alone, and does no
I/O; `wire.stream.inbox` brings it what comes and what is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from wire.events import UNNUMBERED, Batch, Delta, Ending, Event, Failed


class Reply:
    """The events of one job, as they come in. Made by `Inbox.open`."""

    def __init__(self, job: str, max_backlog: int, *, live: bool = True) -> None:
        self.job = job
        self.live = live
        """Whether its events come over the channel, as far as is known; else only the log has
        them."""
        self.read_to = ""
        """The place in the log up to which everything has been accepted."""
        self.ended = False
        self.abandoned = False
        """Whether it ended from this side alone: the job itself may still wait or run."""
        self.on_abandoned: Callable[[], None] | None = None
        """Called when that happens, whatever its reader is held up by."""
        self.resubmit: Callable[[], Awaitable[object]] | None = None
        """Puts the job in line again, if Redis has forgotten it before anything was published."""
        self._events: list[Event] = []
        self._max_backlog = max_backlog
        self._backlog = 0
        self._next = 0
        self._attempt = 0
        self._known = 0
        self.doubts = 0
        """How often something was noticed that only the log can clear up."""
        self._wake: asyncio.Future[None] | None = None
        self.heard = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._next > 0

    @property
    def behind(self) -> bool:
        """Whether events are known to exist that have not come."""
        return self._next < self._known

    async def events(self, until: float | None = None) -> list[Event]:
        """The events that have come since the last call, at least one.

        Waits for it; until a moment on the loop's clock, if one is given, and then returns none.
        After an ending there is nothing more to wait for: do not call again.
        """
        # Runs once for every token of every stream: a bare future and timer are a fifth of what
        # asyncio's Event and timeout cost here.
        if not self._events:
            loop = asyncio.get_running_loop()
            self._wake = loop.create_future()
            timer = loop.call_at(until, self._awaken) if until is not None else None
            try:
                await self._wake
            finally:
                self._wake = None
                if timer is not None:
                    timer.cancel()
        events, self._events = self._events, []
        self._backlog = 0
        return events

    def _awaken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def accept(self, batch: Batch) -> bool:
        """Take what is new in a batch. False if something before it is missing."""
        if self.ended:
            return True
        if self._next and batch.attempt != self._attempt:
            # Redis forgot that an answer had begun, and the job was tried again: what came of it
            # before must not be continued with another answer.
            self.fail("The answer was lost, and another begun in its place.", "answer_lost")
            return True
        first = self._next if batch.first == UNNUMBERED else batch.first
        self._known = max(self._known, first + len(batch.events))
        if first > self._next:
            return False
        if fresh := batch.events[self._next - first :]:
            self._next += len(fresh)
            self._attempt = batch.attempt
            held_up = bool(self._events)
            self._events += fresh
            self.ended = isinstance(fresh[-1], Ending)
            self.heard = time.monotonic()
            self._awaken()
            if held_up:
                self._count(fresh)
        return True

    def _count(self, fresh: list[Event]) -> None:
        # What comes when nothing waits is not counted: it is taken at once, or is one batch.
        self._backlog += _size(fresh)
        absent = self._wake is None  # else it has only not had its turn yet
        if absent and self._backlog > self._max_backlog and not self.ended:
            self.fail("This client does not read its answer fast enough.", "slow_reader")

    def has_room(self, batch: Batch) -> bool:
        """Whether a batch from the log, which can wait, may be accepted now."""
        return not self._events or self._backlog + _size(batch.events) <= self._max_backlog

    def fail(self, message: str, code: str) -> None:
        """End the reply from this side, if it has not ended."""
        if not self.ended:
            self.abandoned = True
            failed = Failed("let_go", message, code=code)
            self.accept(Batch(self.job, self._attempt, UNNUMBERED, [failed]))
            if self.on_abandoned is not None:
                self.on_abandoned()


def _size(events: list[Event]) -> int:
    return sum(len(event.text.encode()) for event in events if isinstance(event, Delta))
