"""The worker's end of the way back: events go out over pub/sub, batched, and into the log.

One publish carries what all of a worker's streams have to say to one front end. A job may have
several: that of its first client, perhaps dead, and that of a retry. An event that comes
when nothing is pending goes out at once; what comes within the next tick goes out together, so
a busy worker pays per tick and an idle stream never waits.

Delivery: pub/sub loses what it cannot deliver at once. The log, written every `LOG_STEP` and with
every ending, does not; both carry the same numbers, so that a reader can tell what it missed. An
answer too long for its log has only its ending there, whose number tells the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from runtime.tasks import background
from wire.events import Batch, Delta, Ending, Event, Failed, encode_frame
from wire.line import keys
from wire.line.claims import Claim
from wire.line.status import EndState
from wire.line.worker import WorkerLine
from wire.redis.client import Redis
from wire.redis.outage import Outage
from wire.seal import Seal
from wire.stream import log

logger = logging.getLogger(__name__)

TICK = 0.0025
"""Seconds between two publishes of a busy worker."""

LOG_STEP = 0.5
"""Seconds between two writes of the logs: how late a lost message is healed."""


class Superseded(Exception):
    """The attempt is not the current one any more: its worker must stop it and publish nothing."""


class Answer:
    """What one attempt has said so far, and how much of it is out."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.front_ends = list(dict.fromkeys(claim.front_ends))
        self.begun = False
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
        """What is pending, as the next batch to publish."""
        batch = Batch(self.claim.id, self.claim.attempt, self._published, self._pending)
        self._published += len(self._pending)
        if self._is_logged:
            self._unlogged += self._pending
        else:
            self._logged = self._published
        self._pending = []
        return batch

    def unlogged(self, *more: Event) -> Batch:
        """What is published and to be logged but not known to be, and `more` after it."""
        return Batch(self.claim.id, self.claim.attempt, self._logged, [*self._unlogged, *more])

    def mark_logged(self, batch: Batch, size: int) -> None:
        """Say that a batch of `unlogged` has been written, as so many bytes."""
        del self._unlogged[: len(batch.events)]
        self._logged += len(batch.events)
        self.logged_bytes += size

    def stop_logging(self) -> None:
        """Leave what is not logged yet, and all that follows, out of the log."""
        self._is_logged = False
        self._unlogged = []
        self._logged = self._published


class Outbox:
    """Publishes what a worker's attempts say."""

    def __init__(self, redis: Redis, line: WorkerLine, seal: Seal, max_log_bytes: int) -> None:
        self._redis = redis
        self._line = line
        self._seal = seal
        self._max_log_bytes = max_log_bytes
        self._dirty: dict[Answer, None] = {}
        self._anything = asyncio.Event()
        self._open: set[Answer] = set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Publish and log in the background for as long as the context lasts."""
        return background(self._publish(), self._write_logs())

    async def say(self, answer: Answer, events: Sequence[Event]) -> None:
        """Publish events of an attempt, soon and in order.

        Raises:
            Superseded: these would be the first, and the attempt is not the current one any more.
            redis.RedisError: these would be the first, and Redis is away.
        """
        if not events:
            return
        answer.add(events)
        if answer.begun:
            self._dirty[answer] = None
            self._anything.set()
        else:
            first = answer.take()
            entry = log.seal_entry(self._seal, first)
            if not await self._line.begin(answer.claim, entry, self._frames(answer, first)):
                raise Superseded
            answer.begun = True
            answer.mark_logged(first, len(entry))
            self._open.add(answer)

    async def end(self, answer: Answer, ending: Ending, *, upstream_failed: bool = False) -> bool:
        """Publish the rest of an attempt and its ending, and free its slot.

        False if the attempt was not the current one any more. `upstream_failed` as in
        `LineView.finish`.

        Raises:
            redis.RedisError: Redis is away; may be called again.
        """
        self._dirty.pop(answer, None)
        self._open.discard(answer)
        claim = answer.claim
        rest = answer.take()
        entry = log.seal_entry(self._seal, answer.unlogged(ending))
        last = Batch(claim.id, claim.attempt, rest.first, [*rest.events, ending])
        frames = self._frames(answer, last)
        state: EndState = "done"
        if isinstance(ending, Failed):
            state = "cancelled" if ending.fault == "cancelled" else "failed"
        reason = ending.fault if isinstance(ending, Failed) else ""
        return await self._line.finish(
            claim.id,
            claim.attempt,
            state,
            entry,
            frames,
            reason=reason,
            upstream_failed=upstream_failed,
        )

    def _frames(self, answer: Answer, batch: Batch) -> dict[str, bytes]:
        return {front: self._seal_frame(front, [batch]) for front in answer.front_ends}

    def _seal_frame(self, front: str, batches: list[Batch]) -> bytes:
        return self._seal.seal(encode_frame(batches), keys.front_end(front))

    async def _publish(self) -> None:
        outage = Outage(logger, "publish events")
        while True:
            await self._anything.wait()
            self._anything.clear()
            by_front: defaultdict[str, list[Batch]] = defaultdict(list)
            for answer in self._dirty:
                batch = answer.take()
                for front in answer.front_ends:
                    by_front[front].append(batch)
            self._dirty.clear()
            # What is lost in an outage the front ends miss by its numbers, and read from the log.
            with outage.tolerated():
                for front, batches in by_front.items():
                    await self._redis.publish(
                        keys.front_end(front), self._seal_frame(front, batches)
                    )
            await asyncio.sleep(TICK)

    async def _write_logs(self) -> None:
        outage = Outage(logger, "write the logs of answers")
        while True:
            await asyncio.sleep(LOG_STEP)
            unlogged = {answer: answer.unlogged() for answer in self._open}
            if any(batch.events for batch in unlogged.values()):
                with outage.tolerated():
                    await self._write_step(unlogged)

    async def _write_step(self, unlogged: dict[Answer, Batch]) -> None:
        batches: dict[Answer, Batch] = {}
        entries: dict[str, bytes] = {}
        for answer, batch in unlogged.items():
            if not batch.events:
                continue
            entry = log.seal_entry(self._seal, batch)
            if answer.logged_bytes + len(entry) <= self._max_log_bytes:
                batches[answer] = batch
                entries[batch.job] = entry
            else:
                await self._line.unlog(answer.claim)
                answer.stop_logging()
                logger.warning("the log of job %s is full: it cannot be resumed", batch.job)
        if entries:
            await log.append(self._redis, entries)
        for answer, batch in batches.items():
            answer.mark_logged(batch, len(entries[batch.job]))
