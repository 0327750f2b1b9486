"""Leases, the right to upstream slots: renewed in one call per heartbeat, given up before they end.

A lease ends by Redis' clock. This process goes by its own monotonic clock, counted from before the
last successful renewal, so it always acts first: a worker that cannot renew closes its
conversations before any other worker can have been given their slots.

The one exception is a Redis that is down for every process. Then no other worker can take the slots
either, and for one lease period after Redis serves again nothing is reclaimed, so conversations may
go on.
"""

from __future__ import annotations

import asyncio
import logging
import time

from msgspec.structs import replace

import settings
from wire.events import Failed
from wire.line.presence import Presence
from wire.line.worker import WorkerLine
from wire.redis.outage import Outage
from wire.stream.outbox import Outbox
from workers.attempt import Attempt, Stop

logger = logging.getLogger(__name__)

MARGIN = 0.5
"""Seconds before the end of an unrenewed lease at which its conversation is closed."""

UNRENEWED = Failed(
    "gateway_error",
    "The worker handling this request could not renew its lease. Retry the request.",
    "worker_lost",
)

RETRY = 0.25
"""Seconds between the beginnings of two tries to renew while Redis is unreachable."""


class Leases:
    """The leases of this worker's attempts, renewed together with its presence."""

    def __init__(
        self,
        line: WorkerLine,
        outbox: Outbox,
        presence: Presence,
        config: settings.Queue,
    ) -> None:
        self._line = line
        self._outbox = outbox
        self._presence = presence
        self._beat = config.heartbeat
        self._lease = config.lease
        self._attempts: dict[str, Attempt] = {}
        self._close_at = 0.0

    def add(self, attempt: Attempt, asked: float) -> None:
        """Renew the lease of an attempt from now on; it was claimed after `asked` (monotonic)."""
        if not self._attempts:
            self._good_from(asked)
        if former := self._attempts.get(attempt.claim.id):
            former.stop("lost")  # else its job could not have been claimed again
        self._attempts[attempt.claim.id] = attempt

    def _good_from(self, time_: float) -> None:
        """Note that all leases last until one lease period after that time, at least."""
        self._close_at = max(self._close_at, time_ + self._lease - MARGIN)

    def remove(self, attempt: Attempt) -> None:
        """Renew the lease of an attempt no longer."""
        if self._attempts.get(attempt.claim.id) is attempt:
            del self._attempts[attempt.claim.id]

    def announce_draining(self) -> None:
        """Tell the line, at the next renewal, that this worker claims no more jobs."""
        self._presence = replace(self._presence, max_jobs=0)

    def stop_all(self, reason: Stop) -> None:
        """Stop every attempt."""
        for attempt in list(self._attempts.values()):
            attempt.stop(reason)

    async def keep(self) -> None:
        """Renew at every heartbeat, forever; stop attempts whose leases are not renewed in time."""
        outage = Outage(logger, "renew leases")
        while True:
            asked = time.monotonic()
            left = self._close_at - asked
            if self._attempts and left <= 0:
                logger.error(
                    "leases could not be renewed in time, their conversations are closed",
                    extra={"event": "leases_lost", "conversations": len(self._attempts)},
                )
                self._give_up_all()
            pause = RETRY
            with outage.tolerated():
                async with asyncio.timeout(min(self._beat, left) if self._attempts else self._beat):
                    await self._renew()
                self._good_from(asked)
                pause = self._beat
            if outage.is_for_everyone:
                self._good_from(asked)  # once Redis serves again, it waits that long
            # At once if that time has passed already: this process was frozen, or Redis was.
            await asyncio.sleep(max(asked + pause - time.monotonic(), 0.0))

    def _give_up_all(self) -> None:
        self.stop_all("lost")
        for attempt in self._attempts.values():
            # The process that finds the lease expired will write an ending. If Redis refuses to
            # write for all of them, this is the only one that the readers get.
            self._outbox.abandon(attempt.publication, UNRENEWED)
        self._attempts.clear()

    async def _renew(self) -> None:
        attempts = dict(self._attempts)  # verdicts are not about what is claimed meanwhile
        claims = [attempt.claim for attempt in attempts.values()]
        tokens = {job: attempt.tokens_so_far for job, attempt in attempts.items()}
        for job, verdict in await self._line.renew(self._presence, claims, tokens):
            attempts[job].stop(verdict)
