"""Outbox to inbox over a real Redis, with messages lost in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.line import QUICK, claim, enqueue, enqueue_chat, new
from tests.support.scripted import ScriptedUpstream
from tests.support.stream import BACKLOG, SMALL, everything, overfill, say, text, words
from wire.events import Delta, Done, Event, Failed, Started
from wire.line import keys, metrics
from wire.line.claims import Claim
from wire.line.commands import Attach
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.channel import RedisChannel
from wire.stream.inbox import Inbox
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from wire.upkeep.reaper import reap
from workers.worker import Worker


@pytest.fixture
async def inbox(redis: Redis, queue: WholeLine, seal: Seal) -> AsyncIterator[Inbox]:
    inbox = Inbox(RedisChannel(redis), queue, seal, "front", outage_grace=60.0, max_backlog=BACKLOG)
    async with inbox.running():
        await inbox.subscribed.wait()
        yield inbox


@pytest.fixture
async def outbox(redis: Redis, queue: WholeLine, seal: Seal) -> AsyncIterator[Outbox]:
    outbox = Outbox(RedisChannel(redis), queue, seal, max_log_bytes=1 << 24)
    async with outbox.running():
        yield outbox


async def test_an_outage_is_logged_once_and_loses_no_event(
    inbox: Inbox,
    outbox: Outbox,
    queue: WholeLine,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A busy worker logged each tick of an outage: hundreds of lines a second."""
    failed = 0
    publish = redis.publish

    async def away(*_: object) -> None:
        nonlocal failed
        failed += 1
        raise ConnectionError

    def told() -> int:
        return [record.getMessage() for record in caplog.records].count(
            "Redis is unavailable (the connection failed): cannot publish events"
        )

    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        await outbox.publish(answer, [Started("m")])
        for outage in (1, 2):
            monkeypatch.setattr(redis, "publish", away)
            before = failed
            while failed < before + 5:
                await outbox.publish(answer, [Delta("x")])
                await asyncio.sleep(0.001)
            assert told() == outage
            monkeypatch.setattr(redis, "publish", publish)
            await outbox.publish(answer, [Delta("y")])
            while answer.unlogged().events:  # written to the log: published before that
                await asyncio.sleep(0.01)
        assert await outbox.finish(answer, Done("stop"))
        events = await everything(reply)
    assert text(events).replace("x", "") == "yy"


async def test_a_lost_ending_is_read_from_the_log(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        await outbox.publish(answer, [Started("m"), Delta("all of it")])
        monkeypatch.setattr(inbox, "_deliver", lambda frame: None)
        await outbox.finish(answer, Done("stop"))
        await redis.client_kill_filter(_type="pubsub")
        events = await everything(reply)
    assert events[-1] == Done("stop")


async def test_a_broken_subscription_misses_no_event(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        await outbox.publish(answer, [Started("m")])
        for n in range(40):
            if n % 10 == 5:
                await redis.client_kill_filter(_type="pubsub")
            await outbox.publish(answer, [Delta(f"{n} ")])
            await asyncio.sleep(0.02)
        assert await outbox.finish(answer, Done("stop"))
        events = await everything(reply)
    assert text(events) == "".join(f"{n} " for n in range(40))


async def test_a_job_that_redis_lost_is_enqueued_again_unless_it_has_begun(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis
) -> None:
    again: list[str] = []

    async def resubmit() -> None:
        again.append("job")
        assert await queue.enqueue(new("job", accepted=True), b"body") is not None

    with inbox.open("job") as reply, inbox.open("begun") as begun:
        reply.resubmit = resubmit
        await enqueue(queue, "job")
        await enqueue(queue, "begun", key="other")
        jobs = {c.id: c for c in await claim(queue)}
        await outbox.publish(Publication(jobs["begun"]), [Started("m")])
        assert await begun.events() == [Started("m")]
        await redis.flushall()
        await redis.client_kill_filter(_type="pubsub")
        (failed,) = await everything(begun)
        assert isinstance(failed, Failed)
        assert failed.code == "job_lost"
        assert [c.id for c in await claim(queue)] == ["job"]
    assert again == ["job"]


async def test_a_frame_for_an_unknown_job_is_ignored(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis
) -> None:
    with inbox.open("job") as reply:
        await redis.publish(keys.front_end("front"), b"garbage")
        await enqueue(queue, "job")
        await outbox.finish(Publication((await claim(queue))[0]), Done("stop"))
        assert await everything(reply) == [Done("stop")]


# ----- several readers of one job


@contextlib.asynccontextmanager
async def another(redis: Redis, queue: WholeLine, seal: Seal, name: str) -> AsyncIterator[Inbox]:
    """The inbox of one more front end."""
    inbox = Inbox(RedisChannel(redis), queue, seal, name, outage_grace=60.0, max_backlog=BACKLOG)
    async with inbox.running():
        await inbox.subscribed.wait()
        yield inbox


async def test_a_front_end_that_is_attached_in_the_middle_gets_all_of_it_too(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis, seal: Seal
) -> None:
    async with another(redis, queue, seal, "other") as other:
        with inbox.open("job") as reply:
            await enqueue(queue, "job")
            answer = Publication((await claim(queue))[0])
            await outbox.publish(answer, [Started("m")])
            await say(outbox, answer, 0, 50)
            answer.attach("other")
            with other.open("job", attached=True) as late:
                await say(outbox, answer, 50, 100)
                async with asyncio.timeout(30):
                    while not late.live or late.behind:
                        await asyncio.sleep(0.01)
                await outbox.finish(answer, Done("stop"))
                for one in (reply, late):
                    events = await everything(one)
                    assert text(events) == words(0, 100)
                    assert events[-1] == Done("stop")


async def test_a_front_end_unknown_to_the_worker_follows_the_log(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis, seal: Seal
) -> None:
    async with another(redis, queue, seal, "other") as other:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        with other.open("job", attached=True) as late:
            await outbox.publish(answer, [Started("m")])
            await say(outbox, answer, 0, 20)
            async with asyncio.timeout(30):
                events: list[Event] = []
                while text(events) != words(0, 20):
                    events += await late.events()
            await say(outbox, answer, 20, 30)
            await outbox.finish(answer, Done("stop"))
            assert text(events + await everything(late)) == words(0, 30)
        with other.open("job", attached=True) as after:
            assert text(await everything(after)) == words(0, 30)


@pytest.mark.parametrize("config", [settings.Settings(queue=QUICK)], ids=["quick"])
async def test_the_ending_of_a_dead_workers_job_reaches_every_front_end(
    inbox: Inbox, outbox: Outbox, queue: WholeLine, redis: Redis, seal: Seal
) -> None:
    async with another(redis, queue, seal, "other") as other:
        with inbox.open("job") as reply, other.open("job") as late:
            await enqueue(queue, "job")
            await attach(redis, "job", "other")
            (claimed,) = await claim(queue)
            assert claimed.front_ends == ["front", "other"]
            await outbox.publish(Publication(claimed), [Started("m")])
            async with asyncio.timeout(30):
                while not (reply.ended and late.ended):
                    await reap(queue, RedisChannel(queue.redis), seal)
                    await queue.presences.show_front_end("other")
                    await asyncio.sleep(QUICK.heartbeat)
            for one in (reply, late):
                (_, failed) = await everything(one)
                assert isinstance(failed, Failed)
                assert failed.code == "worker_lost"


async def attach(redis: Redis, job: str, front: str, attempt: int | None = None) -> None:
    """Attach a front end to an existing job as the line does."""
    key = f"gateway:job:{job}"
    fronts, state, worker, current = (
        (value or b"").decode()
        for value in await redis.hmget(key, ["readers", "state", "worker", "attempt"])  # type: ignore[misc]  # redis-py: sync or async
    )
    await redis.hset(key, "readers", f"{fronts} {front}")  # type: ignore[misc]  # as above
    if state == "running":
        command = Attach(job, attempt or int(current), front)
        assert await redis.publish(keys.worker(worker), msgspec.msgpack.encode(command))


@pytest.fixture
def upstream() -> ScriptedUpstream:
    spoken = (step for n in range(40) for step in ([Delta(f"{n} ")], 0.03))
    return ScriptedUpstream([Started("m")], *spoken, [Done("stop")])


async def test_an_attach_command_makes_a_worker_publish_to_the_front_end(
    inbox: Inbox, queue: WholeLine, redis: Redis, seal: Seal, worker: Worker
) -> None:
    async with another(redis, queue, seal, "other") as other:
        with inbox.open("job") as reply:
            await enqueue_chat(queue, seal, "job")
            begun = await reply.events()
            await attach(redis, "job", "other")
            with other.open("job", attached=True) as late:
                events = await everything(late)
                assert late.live
            assert text(events) == words(0, 40)
            assert text(begun + await everything(reply)) == words(0, 40)


async def test_an_attach_command_may_arrive_before_the_reply_to_the_claim(
    inbox: Inbox,
    queue: WholeLine,
    redis: Redis,
    seal: Seal,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = worker.line.claim

    async def slow(*args: Any) -> list[Claim]:
        claims = await claim(*args)
        if claims:
            await attach(redis, "job", "other")
            while not worker._overtaken:
                await asyncio.sleep(0.001)
        return claims

    monkeypatch.setattr(worker.line, "claim", slow)
    async with another(redis, queue, seal, "other") as other:
        with inbox.open("job") as reply, other.open("job") as late:
            await enqueue_chat(queue, seal, "job")
            assert (await late.events())[0] == Started("m"), "from the very first event"
            assert (await reply.events())[0] == Started("m")


async def test_commands_for_an_earlier_attempt_or_unknown_ones_change_nothing(
    inbox: Inbox,
    queue: WholeLine,
    redis: Redis,
    seal: Seal,
    worker: Worker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with inbox.open("job") as reply:
        await enqueue_chat(queue, seal, "job")
        begun = await reply.events()
        await attach(redis, "job", "other", attempt=7)
        current = (await redis.hget("gateway:job:job", "attempt")).decode()  # type: ignore[misc]  # as above
        unknown = msgspec.msgpack.encode(["sing", "job", int(current)])
        await redis.publish(keys.worker("tested"), unknown)
        assert text(begun + await everything(reply)) == words(0, 40)
    assert "a command to this worker cannot be read" in caplog.messages


# ----- bounds


@pytest.fixture
async def tight(redis: Redis, queue: WholeLine, seal: Seal) -> AsyncIterator[Outbox]:
    """An outbox whose logs are soon full."""
    outbox = Outbox(RedisChannel(redis), queue, seal, max_log_bytes=SMALL)
    async with outbox.running():
        yield outbox


async def test_the_ending_of_an_answer_whose_log_is_full_is_found_if_nothing_else_was_lost(
    inbox: Inbox, tight: Outbox, queue: WholeLine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        said = await overfill(tight, queue, answer)
        monkeypatch.setattr(inbox, "_deliver", lambda frame: None)
        await tight.finish(answer, Done("stop"))
        await redis.client_kill_filter(_type="pubsub")
        events = await everything(reply)
    assert text(events) == "".join(delta.text for delta in said)
    assert events[-1] == Done("stop")


@pytest.mark.parametrize("config", [settings.Settings(queue=QUICK)], ids=["quick"])
async def test_the_failure_of_a_dead_workers_job_is_published_although_the_log_is_full(
    inbox: Inbox, tight: Outbox, queue: WholeLine, seal: Seal, redis: Redis
) -> None:
    with inbox.open("job") as reply:
        await enqueue(queue, "job")
        answer = Publication((await claim(queue))[0])
        said = await overfill(tight, queue, answer)
        async with asyncio.timeout(30):
            while not reply.ended:
                await reap(queue, RedisChannel(queue.redis), seal)
                await queue.presences.show_front_end("front")
                await asyncio.sleep(QUICK.heartbeat)
        events = await everything(reply)
        assert text(events) == "".join(delta.text for delta in said)
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "worker_lost"
        endings = (await metrics.read(redis)).counters["gateway_endings_total"]
        assert endings["chat", "worker_lost"] == 1
