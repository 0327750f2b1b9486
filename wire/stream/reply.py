"""The events of one job on their way to one reader: each once and in order, an ending last.

Pub/sub loses messages and the log repeats them. A reply goes by their numbers alone and does no
I/O; `wire.stream.inbox` delivers to it, and `wire.stream.healing` reads what is missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Coroutine

from wire.events import UNNUMBERED, Batch, Event, Failed, is_ending
from wire.stream.unread import Unread


class Reply:
    """The events of one job, as they arrive until the end of its context. Made by `Inbox.open`."""

    def __init__(
        self,
        job: str,
        max_backlog: int,
        *,
        live: bool = True,
        on_closed: Callable[[Reply], None] | None = None,
    ) -> None:
        self.job = job
        self.live = live
        """True if its events arrive over the channel, as far as is known; else only in the log."""
        self.read_to = ""
        """Position in the log up to which everything has been accepted."""
        self.ended = False
        self.abandoned = False
        """True if it ended on this side alone: the job itself may still be waiting or running."""
        self.on_abandoned: Callable[[], None] | None = None
        """Called when it is abandoned, even if its reader is blocked."""
        self.resubmit: Callable[[], Awaitable[object]] | None = None
        """Enqueues the job again, if Redis has lost it before anything was published."""
        self._on_closed = on_closed
        self.unread = Unread(max_backlog)
        self.doubts = 0
        """Number of times that something was noticed which only the log can settle."""
        self.active = time.monotonic()
        """Time of the latest event."""
        self.began: float | None = None
        """Time of the first event, unless that was an ending."""
        self.tokens: tuple[int, int] | None = None
        """Tokens of the request and of the answer, if its ending told them."""
        self._next = 0
        self._attempt = 0
        self._known = 0

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Receive no more events."""
        self.unread.close()
        self.on_abandoned = None  # it refers to the owner of this reply: a cycle
        if self._on_closed is not None:
            self._on_closed(self)

    @property
    def begun(self) -> bool:
        """True once a part of the answer has arrived."""
        return self._next > 0

    @property
    def claimed(self) -> float | None:
        """Unix time by Redis' clock of the claim for the attempt whose events arrive."""
        return self._attempt / 1000 if self._attempt else None

    @property
    def behind(self) -> bool:
        """True if events are known to exist that have not arrived."""
        return self._next < self._known

    def events(self, until: float = math.inf) -> Coroutine[None, None, list[Event]]:
        """Wait for the next events, at least one, as `Unread.take` does.

        Nothing follows an ending: do not call this again after it.
        """
        return self.unread.take(until)

    def accept(self, batch: Batch) -> bool:
        """Accept the new events of a batch. False if events before it are missing."""
        if self.ended:
            return True
        if self._next and batch.attempt != self._attempt:
            # Redis forgot that an answer had begun, and the job was tried again: one answer must
            # not be continued with another one.
            self.fail(
                "The answer was lost, and another begun in its place. Retry the request.",
                "answer_lost",
            )
            return True
        first = self._next if batch.first == UNNUMBERED else batch.first
        self._known = max(self._known, first + len(batch.events))
        if first > self._next:
            return False
        if fresh := batch.events[self._next - first :]:
            self._next += len(fresh)
            self._attempt = batch.attempt
            self.ended = is_ending(fresh[-1])
            self.active = time.monotonic()
            if self.ended:
                self.tokens = batch.tokens
            elif self.began is None:
                self.began = self.active
            if not self.unread.add(fresh) and not self.ended:
                self.fail("This client does not read its answer fast enough.", "slow_reader")
        return True

    def has_room(self, batch: Batch) -> bool:
        """Tell if a batch from the log, which can wait, may be accepted now."""
        return self.unread.has_room(batch.events)

    def give_up(self) -> None:
        """End the reply because its events will not arrive any more."""
        if self.begun:
            self.fail("Part of the answer was lost on its way. Retry the request.", "answer_lost")
        else:
            self.fail("The waiting line was unreachable for too long.", "line_unavailable")

    def fail(self, message: str, code: str) -> None:
        """End the reply on this side, unless it has ended."""
        if not self.ended:
            self.abandoned = True
            failed = Failed("reply_abandoned", message, code=code)
            self.accept(Batch(self.job, self._attempt, UNNUMBERED, [failed]))
            if self.on_abandoned is not None:
                self.on_abandoned()
