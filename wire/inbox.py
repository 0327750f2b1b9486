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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
from arq.connections import ArqRedis

from background import background
from wire import log
from wire.events import UNNUMBERED, Batch, Delta, Ending, Event, Failed, decode_frame
from wire.presence import front_channel
from wire.queue import Queue
from wire.redis import AWAY
from wire.seal import Seal, SealError
from wire.subscription import Subscription

logger = logging.getLogger(__name__)

HEAL_STEP = 0.2
"""Seconds between two looks into a log for what is missing."""

FOLLOW_STEP = 1.0
"""Seconds between two looks into a log of which we get no live events yet."""

SILENCE = 10.0
"""Seconds without an event after which the inbox asks Redis whether the job still exists."""


class Reply:
    """The events of one job, as they come in. Made by `Inbox.open`."""

    def __init__(self, job: str, max_backlog: int, *, live: bool = True) -> None:
        self.job = job
        self.live = live
        """Whether its events come over the channel, as far as is known; else only the log has
        them."""
        self.read_to = ""
        """The place in the log up to which everything has been accepted."""
        self.ended = False
        self.abandoned = False
        """Whether it ended from this side alone: the job itself may still wait or run."""
        self.on_abandoned: Callable[[], None] | None = None
        """Called when that happens, whatever its reader is held up by."""
        self.resubmit: Callable[[], Awaitable[object]] | None = None
        """Puts the job in line again, if Redis has forgotten it before anything was published."""
        self._events: list[Event] = []
        self._max_backlog = max_backlog
        self._backlog = 0
        self._next = 0
        self._attempt = 0
        self._known = 0
        self.doubts = 0
        """How often something was noticed that only the log can clear up."""
        self._wake: asyncio.Future[None] | None = None
        self.heard = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._next > 0

    @property
    def behind(self) -> bool:
        """Whether events are known to exist that have not come."""
        return self._next < self._known

    async def events(self, until: float | None = None) -> list[Event]:
        """The events that have come since the last call, at least one.

        Waits for it; until a moment on the loop's clock, if one is given, and then returns none.
        After an ending there is nothing more to wait for: do not call again.
        """
        # Runs once for every token of every stream: a bare future and timer are a fifth of what
        # asyncio's Event and timeout cost here.
        if not self._events:
            loop = asyncio.get_running_loop()
            self._wake = loop.create_future()
            timer = loop.call_at(until, self._awaken) if until is not None else None
            try:
                await self._wake
            finally:
                self._wake = None
                if timer is not None:
                    timer.cancel()
        events, self._events = self._events, []
        self._backlog = 0
        return events

    def _awaken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def accept(self, batch: Batch) -> bool:
        """Take what is new in a batch. False if something before it is missing."""
        if self.ended:
            return True
        if self._next and batch.attempt != self._attempt:
            # Redis forgot that an answer had begun, and the job was tried again: what came of it
            # before must not be continued with another answer.
            self.fail("The answer was lost, and another begun in its place.", "answer_lost")
            return True
        first = self._next if batch.first == UNNUMBERED else batch.first
        self._known = max(self._known, first + len(batch.events))
        if first > self._next:
            return False
        if fresh := batch.events[self._next - first :]:
            self._next += len(fresh)
            self._attempt = batch.attempt
            held_up = bool(self._events)
            self._events += fresh
            self.ended = isinstance(fresh[-1], Ending)
            self.heard = time.monotonic()
            self._awaken()
            if held_up:
                self._count(fresh)
        return True

    def _count(self, fresh: list[Event]) -> None:
        # What comes when nothing waits is not counted: it is taken at once, or is one batch.
        self._backlog += _size(fresh)
        absent = self._wake is None  # else it has only not had its turn yet
        if absent and self._backlog > self._max_backlog and not self.ended:
            self.fail("This client does not read its answer fast enough.", "slow_reader")

    def has_room(self, batch: Batch) -> bool:
        """Whether a batch from the log, which can wait, may be accepted now."""
        return not self._events or self._backlog + _size(batch.events) <= self._max_backlog

    def fail(self, message: str, code: str) -> None:
        """End the reply from this side, if it has not ended."""
        if not self.ended:
            self.abandoned = True
            failed = Failed("let_go", message, code=code)
            self.accept(Batch(self.job, self._attempt, UNNUMBERED, [failed]))
            if self.on_abandoned is not None:
                self.on_abandoned()


def _size(events: list[Event]) -> int:
    return sum(len(event.text.encode()) for event in events if isinstance(event, Delta))


class Inbox:
    """Receives for one front end. `front` is its random name and channel."""

    def __init__(
        self,
        redis: ArqRedis,
        queue: Queue,
        seal: Seal,
        front: str,
        *,
        outage_grace: float,
        max_backlog: int,
    ) -> None:
        self._redis = redis
        self._queue = queue
        self._seal = seal
        self._channel = front_channel(front)
        self._outage_grace = outage_grace
        self._max_backlog = max_backlog
        self._replies: dict[str, list[Reply]] = {}
        self.empty = asyncio.Event()
        """Set while no reply is open."""
        self.empty.set()
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
        self.empty.clear()
        if attached:
            self._heal(reply)
        try:
            yield reply
        finally:
            self._replies[job].remove(reply)
            if not self._replies[job]:
                del self._replies[job]
            if not self._replies:
                self.empty.set()
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
            task = asyncio.create_task(self._read_log(reply))
            self._healing[reply] = task
            task.add_done_callback(lambda _: self._healing.pop(reply, None))

    async def _read_log(self, reply: Reply) -> None:
        """Bring a reply up to date; again and again while something is known to be missing."""
        give_up = time.monotonic() + self._outage_grace
        while not reply.ended:
            doubts, pause = reply.doubts, HEAL_STEP
            try:
                known = await self._queue.exists(reply.job)
                # Asked before the log is read: what it still got until then is found there.
                lost = reply.behind and await self._queue.unlogged(reply.job)
                entries = await log.read(self._redis, self._seal, reply.job, reply.read_to)
                room = True
                for at, batch in entries:
                    room = reply.has_room(batch)
                    if not room:
                        break
                    if reply.accept(batch):
                        reply.read_to = at
                if len(entries) == log.PAGE and reply.read_to == entries[-1].at:
                    continue
                if not room:
                    give_up = time.monotonic() + self._outage_grace  # it is the client that is slow
                elif not known and not reply.ended:
                    await self._forgotten(reply)
                elif lost and reply.behind:
                    reply.fail("Part of the answer was lost on its way.", "answer_lost")
                elif not reply.behind and reply.doubts == doubts:
                    if reply.live:
                        return
                    pause = FOLLOW_STEP
                    give_up = time.monotonic() + self._outage_grace
            except AWAY:
                pass  # the deadline below, or the next confirmed subscription, decides
            except (SealError, msgspec.MsgspecError):
                reply.fail("The log of this answer cannot be read.", "log_damaged")
            if time.monotonic() > give_up:
                if reply.begun:
                    reply.fail("Part of the answer was lost on its way.", "answer_lost")
                else:
                    reply.fail("The waiting line was away for too long.", "line_unavailable")
            await asyncio.sleep(pause)

    async def _forgotten(self, reply: Reply) -> None:
        """Redis knows nothing of the job: it was restarted without its last second, or wiped."""
        if reply.begun or reply.resubmit is None:
            reply.fail("Redis has lost the request.", "job_lost")
        else:
            logger.warning("a waiting job had vanished from Redis and is put in line again")
            await reply.resubmit()
