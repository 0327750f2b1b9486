"""Healing: replies read from their jobs' logs what they have missed on the channel.

After a lost subscription that may be every reply of the front end, thousands of them. So those
whose jobs still wait are sorted out first, many in one call: of them nothing was published. For the
others, a fixed number of tasks read one page of one log at a time. Deadlines are watched by a task
of their own, since a Redis that does not answer holds up all the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import AbstractAsyncContextManager
from typing import Literal

import msgspec

from runtime.log_lines import describe_traceback
from runtime.tasks import background
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal, SealError
from wire.stream import log
from wire.stream.channel import Channel, ReadingLine
from wire.stream.reply import Reply

logger = logging.getLogger(__name__)

READERS = 8
"""Logs that are read at the same time."""

BATCH = 500
"""Replies that are sorted in one call."""

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
    """Brings replies up to the logs of their jobs, while the context of `running` lasts."""

    def __init__(
        self, channel: Channel, line: ReadingLine, seal: Seal, outage_grace: float
    ) -> None:
        self._channel = channel
        self._line = line
        self._seal = seal
        self._outage_grace = outage_grace
        # Every reply that is being healed, until its deadline; it is in one of the queues, in the
        # hands of a task, or waits for its next read.
        self._deadlines: dict[Reply, float] = {}
        self._unsorted: asyncio.Queue[Reply] = asyncio.Queue()
        self._unread: asyncio.Queue[Reply] = asyncio.Queue()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Heal in the background for as long as the context lasts."""
        readers = (self._keep_reading() for _ in range(READERS))
        return background(self._keep_sorting(), *readers, self._watch_deadlines())

    def heal(self, reply: Reply) -> None:
        """Read the log of a reply's job, again and again while events are known to be missing.

        After `outage_grace` seconds without success the reply fails.
        """
        reply.doubts += 1
        if not reply.ended and reply not in self._deadlines:
            self._extend(reply)
            self._unsorted.put_nowait(reply)

    def forget(self, reply: Reply) -> None:
        """Heal a reply no longer: it is closed."""
        self._deadlines.pop(reply, None)

    def _extend(self, reply: Reply) -> None:
        self._deadlines[reply] = time.monotonic() + self._outage_grace

    def _continue(self, reply: Reply, pause: float) -> None:
        """Read on after a pause."""
        asyncio.get_running_loop().call_later(pause, self._unsorted.put_nowait, reply)

    async def _watch_deadlines(self) -> None:
        while True:
            await asyncio.sleep(HEAL_STEP)
            now = time.monotonic()
            for reply in [reply for reply, until in self._deadlines.items() if until < now]:
                self.forget(reply)
                reply.give_up()

    async def _keep_sorting(self) -> None:
        """Pass on the replies that may have missed something."""
        while True:
            replies = [await self._unsorted.get()]
            while len(replies) < BATCH and not self._unsorted.empty():
                replies.append(self._unsorted.get_nowait())
            unbegun = {reply: reply.doubts for reply in replies if reply.live and not reply.begun}
            try:
                waiting = await self._line.waiting([reply.job for reply in unbegun])
            except REDIS_ERRORS:  # a log can be read no better, so none of them is
                for reply in replies:
                    self._continue(reply, HEAL_STEP)
                continue
            for reply in replies:
                if reply.job in waiting and unbegun.get(reply) == reply.doubts:
                    self.forget(reply)
                elif reply in self._deadlines:
                    self._unread.put_nowait(reply)

    async def _keep_reading(self) -> None:
        while True:
            reply = await self._unread.get()
            if reply.ended:
                self.forget(reply)
            elif reply in self._deadlines:
                await self._read_page(reply)

    async def _read_page(self, reply: Reply) -> None:
        """Read one page of a job's log, and decide when to read the next."""
        found: _Found = "missing"
        try:
            # In an outage the deadline, or the next confirmed subscription, decides.
            with contextlib.suppress(*REDIS_ERRORS):
                found = await self._read_on(reply)
        except (SealError, msgspec.MsgspecError):
            reply.fail("The log of this answer cannot be read. Retry the request.", "log_damaged")
        except Exception as error:  # a bug, which must not end the others
            described = {"event": "healing_failed", "job": reply.job}
            logger.error("a reply cannot be healed: %s", describe_traceback(error), extra=described)
            reply.fail("This front end had an internal error. Retry the request.", "internal_error")
        if reply not in self._deadlines:
            return
        if reply.ended or (found == "all" and reply.live):
            self.forget(reply)
            return
        if found != "missing":
            self._extend(reply)
        pauses = {"more": 0.0, "all": FOLLOW_STEP}
        self._continue(reply, pauses.get(found, HEAL_STEP))

    async def _read_on(self, reply: Reply) -> _Found:
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
        elif reply in self._deadlines:  # else its client has left while the log was read
            logger.warning(
                "Redis has lost a waiting job, which is enqueued again",
                extra={"event": "job_resubmitted", "job": reply.job},
            )
            await reply.resubmit()
