"""The stream from an outbox to an inbox, step by step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from unittest.mock import patch

from benchmarks.line import WholeLine
from tests.support.line import claim, enqueue
from wire.events import Delta, Done, Ending, Event, Started
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream import log
from wire.stream.channel import Channel, PublishingLine, ReadingLine, RedisChannel
from wire.stream.inbox import Inbox
from wire.stream.memory import MemoryChannel, MemoryLine
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from wire.stream.reply import Reply

BACKLOG = 1 << 20

SMALL = 4000
"""Bytes of a log that is soon full."""


class StreamLine(PublishingLine, ReadingLine, Protocol):
    """The part of the line that the stream needs."""


@dataclass
class Stage:
    """A connection between an outbox and an inbox.

    `start` runs a job, `restart` its next attempt.
    """

    channel: Channel
    line: StreamLine
    start: Callable[[str], Awaitable[Claim]]
    restart: Callable[[Claim], Awaitable[Claim]]


def redis_stage(redis: Redis, line: WholeLine) -> Stage:
    """A stage over a real Redis."""

    async def start(job: str) -> Claim:
        await enqueue(line, job)
        return (await claim(line))[0]

    async def restart(former: Claim) -> Claim:
        assert await line.requeue(former) == "requeued"
        return (await claim(line))[0]

    return Stage(RedisChannel(redis), line, start, restart)


def memory_stage() -> Stage:
    """A stage in memory."""
    channel = MemoryChannel()
    line = MemoryLine(channel)

    async def begin(job: str, attempt: int) -> Claim:
        claimed = Claim(
            "main", "account", "chat", job, attempt, "key", "gpt_4_s", ["front"], b"body"
        )
        line.start(claimed)
        return claimed

    async def start(job: str) -> Claim:
        return await begin(job, 1)

    async def restart(former: Claim) -> Claim:
        return await begin(former.id, former.attempt + 1)

    return Stage(channel, line, start, restart)


@contextlib.asynccontextmanager
async def receiving(
    stage: Stage, seal: Seal, *, outage_grace: float = 60.0, max_backlog: int = BACKLOG
) -> AsyncIterator[Inbox]:
    """The inbox of the front end, subscribed."""
    line, channel = stage.line, stage.channel
    inbox = Inbox(channel, line, seal, "front", outage_grace=outage_grace, max_backlog=max_backlog)
    async with inbox.running():
        await inbox.subscribed.wait()
        yield inbox


async def everything(reply: Reply) -> list[Event]:
    """All events of a reply up to its ending."""
    events: list[Event] = []
    async with asyncio.timeout(30):
        while not (events and isinstance(events[-1], Ending)):
            events += await reply.events()
    return events


def text(events: list[Event]) -> str:
    """The text of an answer."""
    return "".join(e.text for e in events if isinstance(e, Delta))


def words(first: int, end: int) -> str:
    """The text that `say` publishes."""
    return "".join(f"{n} " for n in range(first, end))


async def say(outbox: Outbox, answer: Publication, first: int, end: int) -> None:
    """Publish a number a step."""
    for n in range(first, end):
        await outbox.publish(answer, [Delta(f"{n} ")])
        await asyncio.sleep(0.002)


async def overfill(outbox: Outbox, line: ReadingLine, answer: Publication) -> list[Delta]:
    """Publish until the log is full, and a little more."""
    said = [Delta(f"{n} " * 100) for n in range(20)]
    await outbox.publish(answer, [Started("m")])
    async with asyncio.timeout(30):
        for delta in said:
            await outbox.publish(answer, [delta])
            await asyncio.sleep(0.005)
        while not await line.log_incomplete(answer.claim.id):
            await asyncio.sleep(0.02)
    said += [Delta("after it")]
    await outbox.publish(answer, [said[-1]])
    with patch.object(
        Publication, "unlogged", autospec=True, side_effect=Publication.unlogged
    ) as looks:
        while looks.call_count < 2:  # so the logs have been written once more
            await asyncio.sleep(0.02)
    return said


async def answered(stage: Stage, seal: Seal, pieces: list[str]) -> None:
    """A finished job, with each piece of its answer in a log entry of its own."""
    # Writes no log by itself, as it does not run.
    outbox = Outbox(stage.channel, stage.line, seal, max_log_bytes=1 << 24)
    answer = Publication(await stage.start("job"))
    await outbox.publish(answer, [Started("m")])
    for piece in pieces:
        answer.add([Delta(piece)])
        answer.take()
        step = answer.unlogged()
        await stage.channel.append({"job": log.seal_entry(seal, step)})
        answer.mark_logged(step, 0)
    await outbox.finish(answer, Done("stop"))
