"""The outgoing events of one attempt: numbered, batched, and counted into the log. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from wire.events import Batch, Delta, Event
from wire.line.claims import Claim


class Publication:
    """The events of one attempt so far, and how many of them are published and logged."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.front_ends = list(dict.fromkeys(claim.front_ends))
        self.begun = False
        """True once its first events are published."""
        self.logged_bytes = 0
        self._is_logged = True
        self._published = 0
        self._logged = 0
        self._pending: list[Event] = []
        self._unlogged: list[Event] = []

    def attach(self, front_end: str) -> None:
        """Publish to one more front end from now on; what it missed is in the log."""
        if front_end not in self.front_ends:
            self.front_ends.append(front_end)

    def add(self, events: Sequence[Event]) -> None:
        """Append events; adjacent pieces of text of one kind become one."""
        for event in events:
            last = self._pending[-1] if self._pending else None
            if isinstance(event, Delta) and isinstance(last, Delta) and event.kind == last.kind:
                self._pending[-1] = Delta(last.text + event.text, event.kind)
            else:
                self._pending.append(event)

    def take(self) -> Batch:
        """Return the pending events as the next batch to publish."""
        batch = Batch(self.claim.id, self.claim.attempt, self._published, self._pending)
        self._published += len(self._pending)
        if self._is_logged:
            self._unlogged += self._pending
        else:
            self._logged = self._published
        self._pending = []
        return batch

    def unlogged(self, *more: Event) -> Batch:
        """Return the published events that are not known to be in the log yet, and `more`."""
        return Batch(self.claim.id, self.claim.attempt, self._logged, [*self._unlogged, *more])

    def mark_logged(self, batch: Batch, size: int) -> None:
        """Note that a batch of `unlogged` has been written, as `size` bytes."""
        del self._unlogged[: len(batch.events)]
        self._logged += len(batch.events)
        self.logged_bytes += size

    def stop_logging(self) -> None:
        """Keep the events that are not logged yet, and all that follow, out of the log."""
        self._is_logged = False
        self._unlogged = []
        self._logged = self._published
