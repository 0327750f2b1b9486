"""The right to hold upstream slots: renewed in one call per heartbeat, given up before it ends.

A lease ends by Redis' clock. This process goes by its own monotonic clock, counted from before the
last renewal that worked, so it is always the earlier of the two to act: a worker that cannot renew
closes its conversations while nobody else can have been given their slots.

The one exception is a Redis that is down for everyone. Then nobody can take the slots either, and
for one lease period after its return nothing is reclaimed, so conversations may go on.
"""

from __future__ import annotations

import asyncio
import logging
import time

from msgspec.structs import replace

import settings
from wire import VERSION
from wire.line.presence import Presence
from wire.line.worker import WorkerLine
from wire.redis.outage import Outage
from wire.seal import Seal
from workers.attempt import Attempt, Stop

logger = logging.getLogger(__name__)

MARGIN = 0.5
"""Seconds before the end of an unrenewed lease at which its conversation is closed."""

RETRY = 0.25
"""Seconds between two tries to renew while Redis is away."""


class Leases:
    """All that this worker holds."""

    def __init__(
        self, line: WorkerLine, seal: Seal, worker: str, max_jobs: int, config: settings.Queue
    ) -> None:
        self._line = line
        self._presence = Presence(worker, VERSION, seal.fingerprint, max_jobs)
        self._beat = config.heartbeat
        self._lease = config.lease
        self._held: dict[str, Attempt] = {}
        self._close_at = 0.0

    def hold(self, attempt: Attempt, asked: float) -> None:
        """Keep the lease of an attempt that was claimed no earlier than `asked` (monotonic)."""
        if not self._held:
            self._good_from(asked)
        if former := self._held.get(attempt.claim.id):
            former.stop("lost")  # or else nobody could have claimed its job again
        self._held[attempt.claim.id] = attempt

    def _good_from(self, moment: float) -> None:
        """Note that all leases last for a lease period from then, at least."""
        self._close_at = max(self._close_at, moment + self._lease - MARGIN)

    def drop(self, attempt: Attempt) -> None:
        """Renew it no longer."""
        if self._held.get(attempt.claim.id) is attempt:
            del self._held[attempt.claim.id]

    def take_no_more(self) -> None:
        """Say at the next renewal that this worker is no reason to let requests in."""
        self._presence = replace(self._presence, max_jobs=0)

    def stop_all(self, why: Stop) -> None:
        """Stop every job we hold."""
        for attempt in list(self._held.values()):
            attempt.stop(why)

    async def keep(self) -> None:
        """Renew for ever, at every heartbeat; close what could not be renewed in time."""
        outage = Outage(logger, "renew leases")
        while True:
            asked = time.monotonic()
            left = self._close_at - asked
            if self._held and left <= 0:
                logger.error(
                    "leases not renewed in time: closing %d conversations", len(self._held)
                )
                self.stop_all("lost")
                self._held.clear()
            pause = RETRY
            with outage.tolerated():
                async with asyncio.timeout(min(self._beat, left) if self._held else self._beat):
                    await self._renew()
                self._good_from(asked)
                pause = self._beat - (time.monotonic() - asked)
            if outage.is_for_everyone:
                self._good_from(asked)  # whenever it comes back, it waits that long
            await asyncio.sleep(max(pause, 0.0))

    async def _renew(self) -> None:
        held = dict(self._held)  # what is claimed meanwhile is not meant
        claims = [attempt.claim for attempt in held.values()]
        for job, verdict in await self._line.renew(self._presence, claims):
            held[job].stop(verdict)
