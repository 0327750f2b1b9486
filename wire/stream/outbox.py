"""The worker's side of the stream: events are published in batches, and written into the logs.

One publish carries the events of all of a worker's attempts for one front end. A job may have
several front ends: that of its first client, perhaps dead, and those of its retries. An event that
arrives when nothing is pending is published at once; events of the next tick are published
together, so a busy worker pays per tick and an idle stream never waits. An attempt that adds events
faster than they are published waits (backpressure), so the work of one tick is bounded and leases
are renewed in time, however fast an upstream answers.

Delivery: pub/sub loses what it cannot deliver at once. The log, written every `LOG_STEP` and with
every ending, does not; both carry the same numbers, so that a reader can tell what it missed. The
log of an answer that is too long for it has only the ending, whose number shows the gap.

This is not a transactional outbox: nothing is kept here for a Redis that is unreachable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from runtime.tasks import background
from wire.events import Batch, Ending, Event, Failed
from wire.line import keys
from wire.line.usage import NO_TOKENS, Tokens
from wire.redis.outage import Outage
from wire.seal import Seal
from wire.stream import log
from wire.stream.channel import Channel, PublishingLine
from wire.stream.endings import counted_as, end_state
from wire.stream.frames import seal_frame, seal_frames
from wire.stream.publication import Publication

logger = logging.getLogger(__name__)

TICK = 0.005
"""Seconds between two publishes of a busy worker. Each takes 0.2 ms of CPU time in all roles, and a
token that follows others closely waits half of this on average."""

LOG_STEP = 0.5
"""Seconds between two writes of the logs: the delay with which a lost message is healed."""

LOG_BYTES = 1024 * 1024
"""Bytes of one answer that are logged at once, before the next `LOG_STEP`."""


class Superseded(Exception):
    """The attempt is not the current one any more: its worker must stop it and publish nothing."""


class Outbox:
    """Publishes the events of a worker's attempts."""

    def __init__(
        self, channel: Channel, line: PublishingLine, seal: Seal, max_log_bytes: int
    ) -> None:
        self._channel = channel
        self._line = line
        self._seal = seal
        self._max_log_bytes = max_log_bytes
        self._pending: dict[Publication, None] = {}
        self._has_pending = asyncio.Event()
        self._open: set[Publication] = set()
        self._abandoned: dict[Publication, Batch] = {}
        self._to_log = asyncio.Event()
        self._full: set[Publication] = set()  # whose logs have ended, which Redis may not know yet

    def running(self) -> AbstractAsyncContextManager[None]:
        """Publish and log in the background for as long as the context lasts."""
        return background(self._publish_pending(), self._write_logs())

    async def publish(self, publication: Publication, events: Sequence[Event]) -> None:
        """Publish events of an attempt, soon and in order. Waits while too many are pending.

        Raises:
            Superseded: these would be the first, and the attempt is not the current one any more.
            redis.RedisError: these would be the first, and Redis is unreachable.
        """
        if not events:
            return
        publication.add(events)
        if publication.begun:
            self._pending[publication] = None
            self._has_pending.set()
            if publication.is_full:
                await publication.room()
            return
        first = publication.take()
        entry = log.seal_entry(self._seal, first)
        frames = seal_frames(self._seal, publication.front_ends, first)
        if not await self._line.begin(publication.claim, entry, frames):
            raise Superseded
        publication.begun, publication.began = True, time.time()
        logger.debug("an answer begins", extra={"event": "answer_begun", "job": first.job})
        publication.mark_logged(first, len(entry))
        self._open.add(publication)

    async def finish(
        self,
        publication: Publication,
        ending: Ending,
        *,
        upstream_failed: bool = False,
        tokens: Tokens = NO_TOKENS,
    ) -> bool:
        """Publish the rest of an attempt and its ending, and free its slot.

        False if the attempt was not the current one any more. `upstream_failed` and `tokens` as in
        `LineView.finish`.

        Raises:
            redis.RedisError: Redis is unreachable; the call may be repeated.
        """
        self._pending.pop(publication, None)
        self._open.discard(publication)
        self._full.discard(publication)
        claim = publication.claim
        rest = publication.take()
        used = (tokens.input, tokens.output) if tokens != NO_TOKENS else None
        entry = log.seal_entry(self._seal, publication.unlogged(ending, tokens=used))
        last = Batch(claim.id, claim.attempt, rest.first, [*rest.events, ending], used)
        return await self._line.finish(
            claim.id,
            claim.attempt,
            end_state(ending),
            entry,
            seal_frames(self._seal, publication.front_ends, last),
            reason=counted_as(ending) if isinstance(ending, Failed) else "",
            upstream_failed=upstream_failed,
            tokens=tokens,
        )

    def abandon(self, publication: Publication, failed: Failed) -> None:
        """Publish an ending to the current readers of an attempt, without finishing the job.

        For a Redis that refuses to write. If nothing was published yet, nothing is: the job will be
        requeued.
        """
        self._pending.pop(publication, None)
        self._open.discard(publication)
        if publication.begun:
            publication.take()
            self._abandoned[publication] = publication.unlogged(failed)
            self._has_pending.set()

    async def _publish_pending(self) -> None:
        outage = Outage(logger, "publish events")
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            batches: defaultdict[str, list[Batch]] = defaultdict(list)
            pending = {publication: publication.take() for publication in self._pending}
            for publication, batch in (pending | self._abandoned).items():
                for front_end in publication.front_ends:
                    batches[front_end].append(batch)
            self._pending.clear()
            self._abandoned.clear()
            self._limit_unlogged(pending)
            # Front ends notice by the numbers what an outage has lost, and read it from the log.
            with outage.tolerated():
                for front_end, its_batches in batches.items():
                    frame = seal_frame(self._seal, front_end, its_batches)
                    await self._channel.publish(keys.front_end(front_end), frame)
            await asyncio.sleep(TICK)

    def _limit_unlogged(self, publications: Iterable[Publication]) -> None:
        """Keep the memory for unlogged events bounded, also while Redis takes none."""
        for publication in publications:
            if publication.unlogged_size > LOG_BYTES:
                self._to_log.set()
            if publication.logged_bytes + publication.unlogged_size > self._max_log_bytes:
                self._end_log(publication)

    def _end_log(self, publication: Publication) -> None:
        if publication.is_logged:
            publication.stop_logging()
            self._full.add(publication)

    async def _write_logs(self) -> None:
        outage = Outage(logger, "write the logs of answers")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOG_STEP):
                    await self._to_log.wait()
            self._to_log.clear()
            unlogged = {one: batch for one in self._open if (batch := one.unlogged()).events}
            if unlogged or self._full:
                with outage.tolerated():
                    await self._log(unlogged)

    async def _log(self, unlogged: dict[Publication, Batch]) -> None:
        entries: dict[Publication, bytes] = {}
        for publication, batch in unlogged.items():
            entry = log.seal_entry(self._seal, batch)
            if publication.logged_bytes + len(entry) <= self._max_log_bytes:
                entries[publication] = entry
            else:
                self._end_log(publication)
        for publication in list(self._full):
            await self._line.stop_logging(publication.claim)
            self._full.discard(publication)
            logger.warning(
                "a log is full: its answer cannot be resumed",
                extra={"event": "log_full", "job": publication.claim.id},
            )
        if entries:
            await self._channel.append({one.claim.id: entry for one, entry in entries.items()})
        for publication, entry in entries.items():
            publication.mark_logged(unlogged[publication], len(entry))
