"""The seam between the stream and Redis: channels of frames, logs of entries, and the jobs.

Delivery: a channel delivers a frame at most once, in order, and only to those that are subscribed;
a subscription reports its gaps. A log keeps every entry, in order, as long as its job is known.
`wire.stream.memory` has the same in the memory of one process; one suite of tests runs on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from wire.line import keys
from wire.line.claims import Claim
from wire.line.status import FinalState
from wire.line.usage import NO_TOKENS, Tokens
from wire.redis.client import Redis
from wire.redis.subscription import Subscription


class Subscribed(Protocol):
    """A subscription to a channel. See `wire.redis.subscription.Subscription`."""

    confirmed: asyncio.Event

    def messages(self) -> AsyncGenerator[tuple[str, bytes] | None, None]:
        """Yield the channel and the frame of every message; None where messages may be missing."""
        ...


class Channel(Protocol):
    """Transport of sealed frames and log entries.

    Every method raises one of `wire.redis.outage.REDIS_ERRORS` in an outage.
    """

    def subscribe(self, channel: str) -> Subscribed:
        """Prepare a subscription, which begins with the first call of `messages`."""
        ...

    async def publish(self, channel: str, frame: bytes) -> object:
        """Publish a frame to the current subscribers of a channel."""
        ...

    async def append(self, entries: Mapping[str, bytes]) -> None:
        """Append one entry to the log of each of these jobs, if it has one. Creates no log."""
        ...

    async def read(self, job: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Read up to `limit` entries of a log after a position, each with its own position."""
        ...


class PublishingLine(Protocol):
    """The part of `wire.line.worker.WorkerLine` with which attempts begin and finish."""

    async def begin(self, claim: Claim, entry: bytes, frames: Mapping[str, bytes]) -> bool:
        """See `WorkerLine.begin`."""
        ...

    async def stop_logging(self, claim: Claim) -> None:
        """See `WorkerLine.stop_logging`."""
        ...

    async def finish(
        self,
        id: str,
        attempt: int,
        state: FinalState,
        entry: bytes,
        frames: Mapping[str, bytes],
        *,
        reason: str = "",
        upstream_failed: bool = False,
        tokens: Tokens = NO_TOKENS,
    ) -> bool:
        """See `LineView.finish`."""
        ...


class ReadingLine(Protocol):
    """The part of `wire.line.front_end.FrontEndLine` that readers need."""

    async def waiting(self, ids: Sequence[str]) -> set[str]:
        """See `FrontEndLine.waiting`."""
        ...

    async def exists(self, id: str) -> bool:
        """See `FrontEndLine.exists`."""
        ...

    async def log_incomplete(self, id: str) -> bool:
        """See `FrontEndLine.log_incomplete`."""
        ...


class RedisChannel:
    """Pub/sub channels, and logs in Redis Streams."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def subscribe(self, channel: str) -> Subscription:
        """See `Channel.subscribe`."""
        return Subscription(self._redis, channel)

    async def publish(self, channel: str, frame: bytes) -> None:
        """See `Channel.publish`."""
        await self._redis.publish(channel, frame)

    async def append(self, entries: Mapping[str, bytes]) -> None:
        """See `Channel.append`. All in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job, entry in entries.items():
                # Never creates a log: `WorkerLine.begin` did, with a lifetime, and a log that has
                # expired since must not be created again without one.
                pipe.xadd(keys.log(job), {"box": entry}, nomkstream=True)
            await pipe.execute()

    async def read(self, job: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `Channel.read`."""
        start = f"({after}" if after else "-"
        entries = await self._redis.xrange(keys.log(job), start, count=limit)
        return [(at.decode(), fields[b"box"]) for at, fields in entries]
