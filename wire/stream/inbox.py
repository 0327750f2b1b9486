"""The front end's side of the stream: the events of all its jobs, whole and in order.

One subscription serves the process. Several replies may follow one job, here or in other front
ends: the first client's and those of its retries. A reply that joins a job later has missed its
beginning and reads it from the log. Pub/sub may lose messages (a reconnect, a Redis restart), so
the numbers are watched: if one is missing, or the subscription was lost, or a job has been silent
for long, the job's log is read, and the reply goes on from there (`wire.stream.healing`).

Delivery: a reply gives every event of the job exactly once and in order, an ending last. If a
missing event is lost for good, the ending is a `Failed` of our own. A reply never hangs: what the
log cannot heal within `settings.redis.outage_grace` fails too. Nor does it grow without bound: the
reply of a client that does not read ends when `settings.stream.max_backlog` is exceeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

import msgspec

from runtime.tasks import background
from wire.events import UNNUMBERED
from wire.line import keys
from wire.seal import Seal, SealError
from wire.stream.channel import Channel, ReadingLine
from wire.stream.frames import open_frame
from wire.stream.healing import Healer
from wire.stream.reply import Reply

logger = logging.getLogger(__name__)

SILENCE = 10.0
"""Seconds without an event after which the inbox asks Redis if the job still exists."""


class Inbox:
    """Receives for one front end. `front_end` is its random name."""

    def __init__(
        self,
        channel: Channel,
        line: ReadingLine,
        seal: Seal,
        front_end: str,
        *,
        outage_grace: float,
        max_backlog: int,
    ) -> None:
        self._seal = seal
        self._front_end = front_end
        self._max_backlog = max_backlog
        self._replies: dict[str, list[Reply]] = {}
        self._healer = Healer(channel, line, seal, outage_grace)
        self._subscription = channel.subscribe(keys.front_end(front_end))
        self.subscribed = self._subscription.confirmed
        """Set while Redis has confirmed the subscription: only then may jobs be enqueued."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Receive in the background for as long as the context lasts."""
        async with self._healer.running(), background(self._receive(), self._watch_silence()):
            yield

    def open(self, job: str, *, attached: bool = False) -> Reply:
        """Receive a job's events until the reply is closed; to be opened before it is enqueued.

        Or, `attached`, after this front end was attached to a job that is older: its log is read
        until its worker has received the attachment and its events arrive over the channel.
        """
        reply = Reply(job, self._max_backlog, live=not attached, on_closed=self._on_closed)
        self._replies.setdefault(job, []).append(reply)
        if attached:
            self._healer.heal(reply)
        return reply

    def _on_closed(self, reply: Reply) -> None:
        replies = self._replies[reply.job]
        replies.remove(reply)
        if not replies:
            del self._replies[reply.job]
        self._healer.forget(reply)

    def _open(self) -> list[Reply]:
        return [reply for replies in self._replies.values() for reply in replies]

    def fail_all(self, message: str, code: str) -> None:
        """End every open reply on this side."""
        for reply in self._open():
            reply.fail(message, code)

    def give_up_all(self) -> None:
        """End every open reply, as Redis can be read but not written to."""
        for reply in self._open():
            reply.give_up()

    async def _receive(self) -> None:
        async for message in self._subscription.messages():
            if message is None:
                for reply in self._open():
                    self._healer.heal(reply)
            else:
                self._deliver(message[1])

    def _deliver(self, frame: bytes) -> None:
        try:
            batches = open_frame(self._seal, self._front_end, frame)
        except (SealError, msgspec.MsgspecError) as error:
            logger.error(
                "a frame on our channel cannot be read",
                extra={"event": "frame_unreadable", "error": str(error)},
            )
            return
        for batch in batches:
            for reply in self._replies.get(batch.job, ()):
                reply.live = True
                # An ending without a number was published by a process that cannot know what was
                # published before it: it is not accepted from the channel, but from the log, where
                # it is in its place.
                if batch.first == UNNUMBERED or not reply.accept(batch):
                    self._healer.heal(reply)

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(SILENCE / 4)
            now = time.monotonic()
            for reply in self._open():
                if reply.active < now - SILENCE:
                    reply.active = now
                    self._healer.heal(reply)
