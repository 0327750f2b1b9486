"""The front end's end of the way back: the events of all its jobs, whole and in order.

One subscription serves the process. Several replies may follow one job, here or in other front
ends: the first client's and those of its retries. Who joins a job later has missed its beginning
and reads it from the log. Pub/sub may lose messages (a reconnect, a Redis restart), so
the numbers are watched: where one is missing, or a subscription was away, or a job has been silent
for long, the inbox reads the job's log and goes on from there.

Delivery: a reply gives every event of the job exactly once and in order, an ending last. If a
missing event cannot be had again, the ending is a `Failed` of our own making. It never hangs: what
the log cannot heal within `settings.redis.outage_grace` ends so too. Nor does it grow without
bound: the reply of a client that does not read ends when `settings.stream.max_backlog` is passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import msgspec

from runtime.tasks import background
from wire.events import UNNUMBERED, decode_frame
from wire.line import keys
from wire.line.front_end import FrontEndLine
from wire.redis.client import Redis
from wire.redis.outage import REDIS_ERRORS
from wire.redis.subscription import Subscription
from wire.seal import Seal, SealError
from wire.stream import log
from wire.stream.reply import Reply

logger = logging.getLogger(__name__)

HEAL_STEP = 0.2
"""Seconds between two looks into a log for what is missing."""

FOLLOW_STEP = 1.0
"""Seconds between two looks into a log of which we get no live events yet."""

SILENCE = 10.0
"""Seconds without an event after which the inbox asks Redis whether the job still exists."""

_Found = Literal[
    "more",  # a whole page, after which there may be another
    "no_room",  # more than the client can take now: it is slow
    "all",  # all that is known to be
    "missing",  # not all, or nobody knows
]
"""What a look into a job's log has brought."""


class Inbox:
    """Receives for one front end. `front_end` is its random name and channel."""

    def __init__(
        self,
        redis: Redis,
        line: FrontEndLine,
        seal: Seal,
        front_end: str,
        *,
        outage_grace: float,
        max_backlog: int,
    ) -> None:
        self._redis = redis
        self._line = line
        self._seal = seal
        self._channel = keys.front_end(front_end)
        self._outage_grace = outage_grace
        self._max_backlog = max_backlog
        self._replies: dict[str, list[Reply]] = {}
        self._healing: dict[Reply, asyncio.Task[None]] = {}
        self._subscription = Subscription(redis, self._channel)
        self.subscribed = self._subscription.confirmed
        """Set while Redis has confirmed the subscription: only then may jobs be put in line."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Receive in the background for as long as the context lasts."""
        async with background(self._receive(), self._watch_silence()):
            try:
                yield
            finally:
                for task in self._healing.values():
                    task.cancel()

    @contextlib.contextmanager
    def open(self, job: str, *, attached: bool = False) -> Iterator[Reply]:
        """Listen for a job's events; to be opened before the job is put in line.

        Or, `attached`, after this front end was attached to a job that has been there for longer:
        the log is read until the worker has heard of us and its events come over the channel.
        """
        reply = Reply(job, self._max_backlog, live=not attached)
        self._replies.setdefault(job, []).append(reply)
        if attached:
            self._heal(reply)
        try:
            yield reply
        finally:
            self._replies[job].remove(reply)
            if not self._replies[job]:
                del self._replies[job]
            if task := self._healing.get(reply):
                task.cancel()

    def _open(self) -> list[Reply]:
        return [reply for replies in self._replies.values() for reply in replies]

    def fail_all(self, message: str, code: str) -> None:
        """End every open reply from this side."""
        for reply in self._open():
            reply.fail(message, code)

    async def _receive(self) -> None:
        async for message in self._subscription.messages():
            if message is None:
                for reply in self._open():
                    self._heal(reply)
            else:
                self._deliver(message[1])

    def _deliver(self, data: bytes) -> None:
        try:
            batches = decode_frame(self._seal.open(data, self._channel))
        except (SealError, msgspec.MsgspecError) as error:
            logger.error("a frame that is not for us, or of another version: %s", error)
            return
        for batch in batches:
            for reply in self._replies.get(batch.job, ()):
                reply.live = True
                # An ending without a number comes from somebody who cannot know what was said
                # before it: it is not taken from the channel, but from the log, where it stands in
                # its place.
                if batch.first == UNNUMBERED or not reply.accept(batch):
                    self._heal(reply)

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(SILENCE / 4)
            quiet_since = time.monotonic() - SILENCE
            for reply in self._open():
                if reply.heard < quiet_since:
                    reply.heard = time.monotonic()
                    self._heal(reply)

    def _heal(self, reply: Reply) -> None:
        reply.doubts += 1
        if not reply.ended and reply not in self._healing:
            task = asyncio.create_task(self._catch_up(reply))
            self._healing[reply] = task
            task.add_done_callback(lambda _: self._healing.pop(reply, None))

    async def _catch_up(self, reply: Reply) -> None:
        """Read a job's log, again and again while something is known to be missing."""
        give_up = time.monotonic() + self._outage_grace
        while not reply.ended:
            pause = HEAL_STEP
            found: _Found = "missing"
            try:
                # In an outage the deadline, or the next confirmed subscription, decides.
                with contextlib.suppress(*REDIS_ERRORS):
                    found = await self._read_on(reply)
            except (SealError, msgspec.MsgspecError):
                reply.fail("The log of this answer cannot be read.", "log_damaged")
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
                    if reply.begun:
                        reply.fail("Part of the answer was lost on its way.", "answer_lost")
                    else:
                        reply.fail("The waiting line was away for too long.", "line_unavailable")
            await asyncio.sleep(pause)

    async def _read_on(self, reply: Reply) -> _Found:
        """Bring a reply up to what its job's log has, a page at a time."""
        doubts = reply.doubts
        known = await self._line.exists(reply.job)
        # Asked before the log is read: what it still got until then is found there.
        lost = reply.behind and await self._line.unlogged(reply.job)
        entries = await log.read(self._redis, self._seal, reply.job, reply.read_to)
        for at, batch in entries:
            if not reply.has_room(batch):
                return "no_room"
            if reply.accept(batch):
                reply.read_to = at
        if len(entries) == log.PAGE and reply.read_to == entries[-1].at:
            return "more"
        if not known and not reply.ended:
            await self._forgotten(reply)
        elif lost and reply.behind:
            reply.fail("Part of the answer was lost on its way.", "answer_lost")
        elif not reply.behind and reply.doubts == doubts:
            return "all"
        return "missing"

    async def _forgotten(self, reply: Reply) -> None:
        """Redis knows nothing of the job: it was restarted without its last second, or wiped."""
        if reply.begun or reply.resubmit is None:
            reply.fail("Redis has lost the request.", "job_lost")
        else:
            logger.warning("a waiting job had vanished from Redis and is put in line again")
            await reply.resubmit()
