"""Healing: a reply reads from its job's log what it has missed on the channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Literal

import msgspec

from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal, SealError
from wire.stream import log
from wire.stream.channel import Channel, ReadingLine
from wire.stream.reply import Reply

logger = logging.getLogger(__name__)

HEAL_STEP = 0.2
"""Seconds between two reads of a log for events that are missing."""

FOLLOW_STEP = 1.0
"""Seconds between two reads of a log whose events do not arrive over the channel yet."""

_Found = Literal[
    "more",  # a whole page, after which there may be another
    "no_room",  # more than the reader can take now: it is slow
    "all",  # all that is known to exist
    "missing",  # not all, or it is unknown
]
"""Result of reading a job's log."""


class Healer:
    """Brings replies up to the logs of their jobs."""

    def __init__(
        self, channel: Channel, line: ReadingLine, seal: Seal, outage_grace: float
    ) -> None:
        self._channel = channel
        self._line = line
        self._seal = seal
        self._outage_grace = outage_grace

    async def heal(self, reply: Reply) -> None:
        """Read the log of a reply's job, again and again while events are known to be missing.

        After `outage_grace` seconds without success the reply fails.
        """
        give_up = time.monotonic() + self._outage_grace
        while not reply.ended:
            pause = HEAL_STEP
            found: _Found = "missing"
            try:
                # In an outage the deadline, or the next confirmed subscription, decides.
                with contextlib.suppress(*REDIS_ERRORS):
                    found = await self._read_on(reply)
            except (SealError, msgspec.MsgspecError):
                reply.fail(
                    "The log of this answer cannot be read. Retry the request.", "log_damaged"
                )
                return
            match found:
                case "more":
                    continue
                case "all" if reply.live:
                    return
                case "all":
                    pause = FOLLOW_STEP
                    give_up = time.monotonic() + self._outage_grace
                case "no_room":
                    give_up = time.monotonic() + self._outage_grace
                case "missing" if time.monotonic() > give_up:
                    reply.give_up()
            await asyncio.sleep(pause)

    async def _read_on(self, reply: Reply) -> _Found:
        """Read one page of a job's log."""
        doubts = reply.doubts
        known = await self._line.exists(reply.job)
        # Asked before the log is read: what was still written until then is found there.
        lost = reply.behind and await self._line.log_incomplete(reply.job)
        entries = await log.read(self._channel, self._seal, reply.job, reply.read_to)
        for position, batch in entries:
            if not reply.has_room(batch):
                return "no_room"
            if reply.accept(batch):
                reply.read_to = position
        if len(entries) == log.PAGE and reply.read_to == entries[-1].position:
            return "more"
        if not known and not reply.ended:
            await self._resubmit(reply)
        elif lost and reply.behind:
            reply.fail("Part of the answer was lost on its way. Retry the request.", "answer_lost")
        elif not reply.behind and reply.doubts == doubts:
            return "all"
        return "missing"

    async def _resubmit(self, reply: Reply) -> None:
        """Enqueue again a job that Redis does not know: it lost its last second, or was wiped."""
        if reply.begun or reply.resubmit is None:
            reply.fail("Redis has lost the request. Retry the request.", "job_lost")
        else:
            logger.warning(
                "Redis has lost a waiting job, which is enqueued again",
                extra={"event": "job_resubmitted", "job": reply.job},
            )
            await reply.resubmit()
