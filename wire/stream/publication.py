"""The outgoing events of one attempt: numbered, batched, and counted into the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wire.events import OVERHEAD, Batch, Delta, Event, Kind, size_of
from wire.line.claims import Claim

FULL = 64 * 1024
"""Bytes of pending events above which an attempt waits until they are published."""


class Publication:
    """The events of one attempt so far, and how many of them are published and logged."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.front_ends = list(dict.fromkeys(claim.front_ends))
        self.begun = False
        """True once its first events are published."""
        self.began = 0.0
        """Unix time at which its first events were published."""
        self.logged_bytes = 0
        self.unlogged_size = 0
        """About the bytes of the events that are published and not known to be in the log."""
        self.is_logged = True
        self._published = 0
        self._logged = 0
        self._pending: list[Event] = []
        self._pending_size = 0
        self._kind: Kind | None = None  # of the texts that become the next `Delta`
        self._texts: list[str] = []
        self._unlogged: list[Event] = []
        self._room = asyncio.Event()
        self._room.set()

    def attach(self, front_end: str) -> None:
        """Publish to one more front end from now on; what it missed is in the log."""
        if front_end not in self.front_ends:
            self.front_ends.append(front_end)

    def add(self, events: Sequence[Event]) -> None:
        """Append events; adjacent pieces of text of one kind become one.

        They are joined once, when they are taken: joining them here would be quadratic.
        """
        for event in events:
            if type(event) is Delta:
                self._pending_size += OVERHEAD + len(event.text)
                if event.kind != self._kind:
                    self._join()
                    self._kind = event.kind
                self._texts.append(event.text)
            else:
                self._pending_size += size_of(event)
                self._join()
                self._pending.append(event)
        if self._pending_size > FULL:
            self._room.clear()

    @property
    def is_full(self) -> bool:
        """True if more is pending than `FULL`."""
        return self._pending_size > FULL

    async def room(self) -> None:
        """Wait while it is full (backpressure)."""
        await self._room.wait()

    def take(self) -> Batch:
        """Return the pending events as the next batch to publish."""
        self._join()
        batch = Batch(self.claim.id, self.claim.attempt, self._published, self._pending)
        self._published += len(self._pending)
        if self.is_logged:
            self._unlogged += self._pending
            self.unlogged_size += self._pending_size
        else:
            self._logged = self._published
        if self._pending_size > FULL:
            self._room.set()
        self._pending, self._pending_size = [], 0
        return batch

    def unlogged(self, *more: Event, tokens: tuple[int, int] | None = None) -> Batch:
        """Return the published events that are not known to be in the log yet, and `more`."""
        events = [*self._unlogged, *more]
        return Batch(self.claim.id, self.claim.attempt, self._logged, events, tokens)

    def mark_logged(self, batch: Batch, size: int) -> None:
        """Note that a batch of `unlogged` has been written, as `size` bytes."""
        del self._unlogged[: len(batch.events)]
        self.unlogged_size = sum(map(size_of, self._unlogged))
        self._logged += len(batch.events)
        self.logged_bytes += size

    def stop_logging(self) -> None:
        """Keep the events that are not logged yet, and all that follow, out of the log."""
        self.is_logged = False
        self._unlogged, self.unlogged_size = [], 0
        self._logged = self._published

    def _join(self) -> None:
        if self._kind is not None:
            self._pending.append(Delta("".join(self._texts), self._kind))
            self._kind, self._texts = None, []
