"""Conformance of the stream's two channels: Redis, and the memory of one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from benchmarks.line import WholeLine
from tests.support.stream import (
    SMALL,
    Stage,
    answered,
    everything,
    memory_stage,
    overfill,
    receiving,
    redis_stage,
    say,
    text,
    words,
)
from wire.events import Delta, Done, Ending, Event, Failed, Started
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream import log
from wire.stream.inbox import Inbox
from wire.stream.outbox import Outbox, Superseded
from wire.stream.publication import Publication


@pytest.fixture(params=["redis", "memory"])
def stage(request: pytest.FixtureRequest, redis: Redis, queue: WholeLine) -> Stage:
    return redis_stage(redis, queue) if request.param == "redis" else memory_stage()


@pytest.fixture
async def inbox(stage: Stage, seal: Seal) -> AsyncIterator[Inbox]:
    async with receiving(stage, seal) as inbox:
        yield inbox


@pytest.fixture
async def outbox(stage: Stage, seal: Seal) -> AsyncIterator[Outbox]:
    outbox = Outbox(stage.channel, stage.line, seal, max_log_bytes=1 << 24)
    async with outbox.running():
        yield outbox


@pytest.fixture
async def tight(stage: Stage, seal: Seal) -> AsyncIterator[Outbox]:
    """An outbox whose logs are soon full."""
    outbox = Outbox(stage.channel, stage.line, seal, max_log_bytes=SMALL)
    async with outbox.running():
        yield outbox


async def test_published_events_arrive_once_and_in_order(
    stage: Stage, inbox: Inbox, outbox: Outbox
) -> None:
    with inbox.open("job") as reply:
        answer = Publication(await stage.start("job"))
        await outbox.publish(answer, [Started("m")])
        for n in range(200):
            await outbox.publish(answer, [Delta(f"{n} ")])
            if n % 7 == 0:
                await asyncio.sleep(0.001)
        assert await outbox.finish(answer, Done("stop"))
        events = await everything(reply)
    assert text(events) == "".join(f"{n} " for n in range(200))
    assert events[-1] == Done("stop")


async def test_an_attempt_has_one_ending(stage: Stage, inbox: Inbox, outbox: Outbox) -> None:
    with inbox.open("job") as reply, inbox.open("job") as other:
        answer = Publication(await stage.start("job"))
        await outbox.publish(answer, [Started("m")])
        assert await outbox.finish(answer, Done("stop"))
        assert not await outbox.finish(answer, Done("length"))
        for one in (reply, other):
            assert await everything(one) == [Started("m"), Done("stop")]
            assert one.unread.events == []
    assert await stage.line.exists("job")


async def test_lost_messages_are_read_from_the_log(
    stage: Stage, inbox: Inbox, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0
    deliver = inbox._deliver

    def lossy(frame: bytes) -> None:
        nonlocal lost
        if lost < 5:
            lost += 1
        else:
            deliver(frame)

    with inbox.open("job") as reply:
        answer = Publication(await stage.start("job"))
        await outbox.publish(answer, [Started("m")])
        await reply.events()
        monkeypatch.setattr(inbox, "_deliver", lossy)
        for n in range(60):
            await outbox.publish(answer, [Delta(f"{n} ")])
            await asyncio.sleep(0.005)
        assert await outbox.finish(answer, Done("stop"))
        events = await everything(reply)
    assert lost == 5
    assert text(events) == "".join(f"{n} " for n in range(60))


async def test_an_event_that_neither_channel_nor_log_has_is_an_error_and_not_a_gap(
    stage: Stage, seal: Seal, outbox: Outbox
) -> None:
    async with receiving(stage, seal, outage_grace=0.5) as inbox:
        with inbox.open("job") as reply:
            answer = Publication(await stage.start("job"))
            await outbox.publish(answer, [Started("m")])
            await reply.events()
            lost = asyncio.Event()
            deliver, inbox._deliver = inbox._deliver, lambda frame: lost.set()  # type: ignore[method-assign]
            await outbox.publish(answer, [Delta("lost")])
            await lost.wait()
            answer.mark_logged(answer.unlogged(), 0)  # as if it had been written
            inbox._deliver = deliver  # type: ignore[method-assign]
            await outbox.publish(answer, [Delta("after")])
            events = await everything(reply)
    assert events == [Failed("reply_abandoned", events[-1].message, "answer_lost")]  # type: ignore[union-attr]


async def test_a_job_that_is_unknown_fails_its_reader(stage: Stage, inbox: Inbox) -> None:
    with inbox.open("unknown", attached=True) as reply:
        (failed,) = await everything(reply)
    assert isinstance(failed, Failed)
    assert failed.code == "job_lost"


async def test_an_attempt_that_is_not_current_publishes_nothing(
    stage: Stage, inbox: Inbox, outbox: Outbox, seal: Seal
) -> None:
    with inbox.open("job") as reply:
        stale = await stage.start("job")
        current = await stage.restart(stale)
        with pytest.raises(Superseded):
            await outbox.publish(Publication(stale), [Started("stale")])
        assert not await outbox.finish(Publication(stale), Done("stop"))
        await outbox.finish(Publication(current), Done("length"))
        assert await everything(reply) == [Done("length")]
    entries = await log.read(stage.channel, seal, "job")
    assert [event for entry in entries for event in entry.batch.events] == [Done("length")]


async def test_all_readers_in_one_front_end_get_everything(
    stage: Stage, inbox: Inbox, outbox: Outbox
) -> None:
    with inbox.open("job") as first, inbox.open("job") as second:
        answer = Publication(await stage.start("job"))
        await outbox.publish(answer, [Started("m")])
        await say(outbox, answer, 0, 50)
        with inbox.open("job", attached=True) as late:
            await say(outbox, answer, 50, 100)
            await outbox.finish(answer, Done("stop"))
            for reply in (first, second, late):
                events = await everything(reply)
                assert text(events) == words(0, 100)
                assert events[0] == Started("m")
                assert events[-1] == Done("stop")


async def test_a_reader_may_leave_while_another_one_reads_on(
    stage: Stage, inbox: Inbox, outbox: Outbox
) -> None:
    with inbox.open("job") as stays:
        answer = Publication(await stage.start("job"))
        with inbox.open("job"):
            await outbox.publish(answer, [Started("m")])
        await say(outbox, answer, 0, 5)
        await outbox.finish(answer, Done("stop"))
        assert text(await everything(stays)) == words(0, 5)


async def test_a_long_log_is_read_page_by_page(stage: Stage, inbox: Inbox, seal: Seal) -> None:
    await answered(stage, seal, [f"{n} " for n in range(3 * log.PAGE)])
    with inbox.open("job", attached=True) as late:
        async with asyncio.timeout(10):
            assert text(await everything(late)) == words(0, 3 * log.PAGE)


async def test_a_log_is_read_no_faster_than_the_client_reads(stage: Stage, seal: Seal) -> None:
    pieces = [f"{n:04} " * 100 for n in range(3 * log.PAGE)]
    await answered(stage, seal, pieces)
    async with receiving(stage, seal, outage_grace=0.5, max_backlog=50_000) as inbox:
        with inbox.open("job", attached=True) as reply:
            events: list[Event] = []
            async with asyncio.timeout(30):
                while not (events and isinstance(events[-1], Ending)):
                    taken = await reply.events()
                    assert len(text(taken)) <= 51_000
                    events += taken
                    await asyncio.sleep(0.7 if len(events) < 200 else 0.01)
    assert events[-1] == Done("stop")
    assert text(events) == "".join(pieces)


async def test_a_reader_that_is_too_slow_for_live_events_is_cut_off(
    stage: Stage, seal: Seal, outbox: Outbox
) -> None:
    async with receiving(stage, seal, max_backlog=1000) as inbox:
        with inbox.open("job") as slow, inbox.open("job") as quick:
            reading = asyncio.create_task(everything(quick))
            answer = Publication(await stage.start("job"))
            await outbox.publish(answer, [Started("m")])
            async with asyncio.timeout(30):
                while not slow.ended:
                    await outbox.publish(answer, [Delta("x" * 100)])
                    await asyncio.sleep(0.005)
            await outbox.finish(answer, Done("stop"))
            last = (await slow.events())[-1]
            assert isinstance(last, Failed)
            assert last.code == "slow_reader"
            assert slow.abandoned
            assert (await reading)[-1] == Done("stop")


async def logged_bytes(stage: Stage) -> int:
    return sum(len(entry) for _, entry in await stage.channel.read("job", "", 1000))


async def test_a_full_log_is_written_no_further_and_its_readers_miss_nothing(
    stage: Stage, inbox: Inbox, tight: Outbox
) -> None:
    with inbox.open("job") as reply:
        answer = Publication(await stage.start("job"))
        said = await overfill(tight, stage.line, answer)
        assert await logged_bytes(stage) <= SMALL
        await tight.finish(answer, Done("stop"))
        events = await everything(reply)
    assert text(events) == "".join(delta.text for delta in said)
    assert events[-1] == Done("stop")
    assert await logged_bytes(stage) <= SMALL + 200


@pytest.mark.parametrize("ended", [True, False])
async def test_events_that_a_full_log_lacks_are_an_error_at_once(
    stage: Stage, inbox: Inbox, tight: Outbox, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    with inbox.open("job") as reply:
        answer = Publication(await stage.start("job"))
        await overfill(tight, stage.line, answer)
        deliver = inbox._deliver
        lost = asyncio.Event()
        monkeypatch.setattr(inbox, "_deliver", lambda frame: lost.set())
        await tight.publish(answer, [Delta("lost")])
        await lost.wait()
        monkeypatch.setattr(inbox, "_deliver", deliver)
        async with asyncio.timeout(30):  # the inbox would wait longer for a log that still grows
            if ended:
                await tight.finish(answer, Done("stop"))
            else:
                await tight.publish(answer, [Delta("more")])
            *_, failed = await everything(reply)
        assert isinstance(failed, Failed)
        assert failed.code == "answer_lost"
