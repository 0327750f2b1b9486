"""The events that one reader has received but not read yet."""

from __future__ import annotations

import asyncio
import math

from runtime.alarm import Alarm
from wire.events import Delta, Event, size_of

MOST = 1000
MOST_BYTES = 64 * 1024
"""Events that are taken at once, and their bytes: rendering more would keep others waiting."""

MOST_UNREAD = 16 * MOST
"""Events that may be unread, however short they are."""


class Unread:
    """A buffer of events, bounded by their bytes and by their number."""

    def __init__(self, max_backlog: int) -> None:
        self.events: list[Event] = []
        self.backlog = 0
        """Bytes of the events that arrived while others were unread."""
        self._max_backlog = max_backlog
        self._arrived: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._wake)

    def close(self) -> None:
        """Note that no more events are taken."""
        self._alarm.stop()

    async def take(self, until: float = math.inf) -> list[Event]:
        """Return the events that have arrived since the last call, one to `MOST` of them.

        Waits for one, `until` a time on the loop's clock at most, and then returns none.
        """
        # Runs once for every token of every stream: a bare future and an alarm are a fifth of what
        # asyncio's Event and timeout cost here.
        if not self.events:
            self._arrived = asyncio.get_running_loop().create_future()
            self._alarm.set(until)
            try:
                await self._arrived
            finally:
                self._arrived = None
        if len(self.events) > MOST or self.backlog > MOST_BYTES:
            return await self._take_some()
        events, self.events = self.events, []
        self.backlog = 0
        return events

    async def _take_some(self) -> list[Event]:
        """Return the first of many events, after other clients have had their turn."""
        await asyncio.sleep(0)
        size = number = 0
        while number < min(MOST, len(self.events)) and size <= MOST_BYTES:
            size += _size(self.events[number : number + 1])
            number += 1
        events, self.events = self.events[:number], self.events[number:]
        self.backlog = max(0, self.backlog - size)
        return events

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def add(self, events: list[Event]) -> bool:
        """Append events. False: the reader is too slow, more is unread now than may be.

        Events that arrive when nothing is unread are not counted: they are taken at once, or are
        one batch.
        """
        behind = bool(self.events)
        self.events += events
        self._wake()
        if not behind:
            return True
        self.backlog += _size(events)
        # A reader that waits has only not had its turn on the loop yet.
        return self._fits(self.backlog, len(self.events)) or self._arrived is not None

    def has_room(self, events: list[Event]) -> bool:
        """Tell if events that can wait, as they are in the log, may be added now."""
        size, number = self.backlog + _size(events), len(self.events) + len(events)
        return not self.events or self._fits(size, number)

    def _fits(self, size: int, number: int) -> bool:
        return size <= self._max_backlog and number <= MOST_UNREAD


def _size(events: list[Event]) -> int:
    return sum(
        len(event.text.encode()) if type(event) is Delta else size_of(event) for event in events
    )
