"""Outbox to inbox over a real Redis, with messages lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from tests.integration.test_queue import claim, enqueue
from wire import log
from wire.events import Delta, Done, Ending, Event, Failed, Started
from wire.inbox import Inbox, Reply
from wire.outbox import Answer, Outbox, Superseded
from wire.queue import Queue, front_channel
from wire.seal import Seal


@pytest.fixture
async def inbox(redis: ArqRedis, queue: Queue, seal: Seal) -> AsyncIterator[Inbox]:
    inbox = Inbox(redis, queue, seal, "front", outage_grace=3.0)
    async with inbox.running():
        await inbox.subscribed.wait()
        yield inbox


@pytest.fixture
async def outbox(redis: ArqRedis, queue: Queue, seal: Seal) -> AsyncIterator[Outbox]:
    outbox = Outbox(redis, queue, seal)
    async with outbox.running():
        yield outbox


async def everything(reply: Reply) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(10):
        while not (events and isinstance(events[-1], Ending)):
            events += await reply.events()
    return events


def text(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


async def test_what_a_worker_says_a_front_end_hears(
    inbox: Inbox, outbox: Outbox, queue: Queue
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Answer((await claim(queue))[0])
        await outbox.say(answer, [Started("m")])
        for n in range(200):
            await outbox.say(answer, [Delta(f"{n} ")])
            if n % 7 == 0:
                await asyncio.sleep(0.001)
        assert await outbox.end(answer, Done("stop"))
        events = await everything(reply)
    assert text(events) == "".join(f"{n} " for n in range(200))
    assert events[-1] == Done("stop")


async def test_messages_lost_in_the_middle_are_read_from_the_log(
    inbox: Inbox, outbox: Outbox, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0
    deliver = inbox._deliver

    def lossy(data: bytes) -> None:
        nonlocal lost
        if lost < 5:
            lost += 1
        else:
            deliver(data)

    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Answer((await claim(queue))[0])
        await outbox.say(answer, [Started("m")])
        await reply.events()
        monkeypatch.setattr(inbox, "_deliver", lossy)
        for n in range(60):
            await outbox.say(answer, [Delta(f"{n} ")])
            await asyncio.sleep(0.005)
        assert await outbox.end(answer, Done("stop"))
        events = await everything(reply)
    assert lost == 5
    assert text(events) == "".join(f"{n} " for n in range(60))


async def test_an_ending_that_was_lost_is_found(
    inbox: Inbox, outbox: Outbox, queue: Queue, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Answer((await claim(queue))[0])
        await outbox.say(answer, [Started("m"), Delta("all of it")])
        monkeypatch.setattr(inbox, "_deliver", lambda data: None)
        await outbox.end(answer, Done("stop"))
        await redis.client_kill_filter(_type="pubsub")
        events = await everything(reply)
    assert events[-1] == Done("stop")


async def test_a_subscription_that_is_cut_misses_nothing(
    inbox: Inbox, outbox: Outbox, queue: Queue, redis: ArqRedis
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Answer((await claim(queue))[0])
        await outbox.say(answer, [Started("m")])
        for n in range(40):
            if n % 10 == 5:
                await redis.client_kill_filter(_type="pubsub")
            await outbox.say(answer, [Delta(f"{n} ")])
            await asyncio.sleep(0.02)
        assert await outbox.end(answer, Done("stop"))
        events = await everything(reply)
    assert text(events) == "".join(f"{n} " for n in range(40))


async def test_a_log_without_its_middle_is_an_error_and_not_a_hole(
    redis: ArqRedis, queue: Queue, seal: Seal, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(redis, queue, seal, "front", outage_grace=0.5)
    async with inbox.running():
        await inbox.subscribed.wait()
        with inbox.open("job") as reply:
            await enqueue(queue, "job")
            answer = Answer((await claim(queue))[0])
            await outbox.say(answer, [Started("m")])
            await reply.events()
            deliver, inbox._deliver = inbox._deliver, lambda data: None  # type: ignore[method-assign]
            await outbox.say(answer, [Delta("lost")])
            await asyncio.sleep(0.05)
            answer.mark_logged(answer.unlogged())  # as if it had been written
            inbox._deliver = deliver  # type: ignore[method-assign]
            await outbox.say(answer, [Delta("after")])
            events = await everything(reply)
    assert events == [Failed("gateway_error", events[-1].message, "answer_lost")]  # type: ignore[union-attr]


async def test_a_job_that_redis_forgot_is_put_in_line_again_unless_it_has_begun(
    inbox: Inbox, outbox: Outbox, queue: Queue, redis: ArqRedis
) -> None:
    again: list[str] = []

    async def resubmit() -> None:
        again.append("job")
        await enqueue(queue, "job")

    with inbox.open("job") as reply, inbox.open("begun") as begun:
        reply.resubmit = resubmit
        await enqueue(queue, "job")
        await enqueue(queue, "begun", account="other")
        jobs = {c.id: c for c in await claim(queue)}
        await outbox.say(Answer(jobs["begun"]), [Started("m")])
        assert await begun.events() == [Started("m")]
        await redis.flushall()
        await redis.client_kill_filter(_type="pubsub")
        (failed,) = await everything(begun)
        assert isinstance(failed, Failed)
        assert failed.code == "job_lost"
        assert [c.id for c in await claim(queue)] == ["job"]
    assert again == ["job"]


async def test_a_stale_attempt_publishes_nothing(
    inbox: Inbox, outbox: Outbox, queue: Queue, redis: ArqRedis, seal: Seal
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        (stale,) = await claim(queue)
        assert await queue.hand_back(stale)
        (current,) = await claim(queue)
        with pytest.raises(Superseded):
            await outbox.say(Answer(stale), [Started("stale")])
        assert not await outbox.end(Answer(stale), Done("stop"))
        await outbox.end(Answer(current), Done("length"))
        assert await everything(reply) == [Done("length")]
    logged = [event for batch in await log.read(redis, seal, "job") for event in batch.events]
    assert logged == [Done("length")]


async def test_a_frame_that_is_not_for_us_is_dropped(
    inbox: Inbox, outbox: Outbox, queue: Queue, redis: ArqRedis
) -> None:
    with inbox.open("job") as reply:
        await redis.publish(front_channel("front"), b"garbage")
        await enqueue(queue, "job")
        await outbox.end(Answer((await claim(queue))[0]), Done("stop"))
        assert await everything(reply) == [Done("stop")]
