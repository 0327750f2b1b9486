"""Conversations are deleted once they are over, with any outcome of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from itertools import pairwise

import pytest

import settings
from tests.support.clock import Clock, stop_clock_of_deletions
from tests.support.line import SOON
from tests.support.pandora import collect, job, new_pandora, simulated, text
from wire.redis.client import Redis
from wire.seal import Seal
from workers.pandora.backend import Backend
from workers.pandora.conversations import delete_conversation
from workers.pandora.deletions import ConversationRecord, Deletions

FAST = "words=2 interval=0 delay=0"


class Upstream:
    """Deletes conversations after a number of refusals."""

    def __init__(self, *, refusals: int = 0) -> None:
        self.asked: list[tuple[str, str]] = []
        self.deleted = asyncio.Event()
        self._refusals = refusals

    async def delete(self, bearer: str, conversation_id: str) -> bool:
        self.asked.append((bearer, conversation_id))
        if len(self.asked) <= self._refusals:
            return False
        self.deleted.set()
        return True


async def emptied(redis: Redis) -> None:
    """Wait until no deletion is recorded."""
    async with asyncio.timeout(30):
        while await redis.keys("gateway:deletion*"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["", "fault=cut at=900", "fault=error_after", "fault=no_done"])
async def test_a_conversation_is_hidden_after_its_answer_and_after_a_failed_one(
    redis: Redis, seal: Seal, how: str
) -> None:
    async with simulated() as (caller, session):
        backend = Backend(session, caller.url)
        deletions = Deletions(redis, seal, partial(delete_conversation, backend), SOON)
        async with deletions.running():
            pandora = new_pandora(session, caller.url, deletions=deletions)
            events = await collect(pandora, job(f"[[sim {how} {FAST}]]"))
            assert how or text(events) == "w0 w1"
            await caller.until(lambda stats: stats["hidden"] == 1)
            await emptied(redis)


async def test_a_conversation_is_hidden_after_its_client_disconnects(
    redis: Redis, seal: Seal
) -> None:
    async with simulated() as (caller, session):
        backend = Backend(session, caller.url)
        deletions = Deletions(redis, seal, partial(delete_conversation, backend), SOON)
        async with deletions.running():
            pandora = new_pandora(session, caller.url, deletions=deletions)
            async with aclosing(pandora.answer(job("[[sim words=1000]]"))) as answer:
                await anext(answer)
                assert (await caller.stats())["hidden"] == 0
            await caller.until(lambda stats: stats["hidden"] == 1)


async def test_a_conversation_handed_over_to_a_websocket_is_recorded_before_its_first_event(
    redis: Redis, seal: Seal
) -> None:
    async with simulated() as (caller, session):
        backend = Backend(session, caller.url)
        deletions = Deletions(redis, seal, partial(delete_conversation, backend), SOON)
        async with deletions.running():
            pandora = new_pandora(session, caller.url, deletions=deletions)
            silent = job("[[sim account=websocket fault=silence]]")
            waiting = asyncio.create_task(collect(pandora, silent))
            await caller.until(lambda stats: stats["sockets"] == 1)
            waiting.cancel()
            await asyncio.wait([waiting])
            await caller.until(lambda stats: stats["hidden"] == 1)
            await pandora.aclose()


async def test_history_off_leaves_nothing_to_delete(loop: asyncio.AbstractEventLoop) -> None:
    async with simulated() as (caller, session):
        pandora = new_pandora(session, caller.url, keep_history=False)
        asked = job("[[sim tool=python link=/mnt/data/a.csv interval=0 delay=0]]")
        assert "sandbox" not in text(await collect(pandora, asked))
        assert (await caller.stats())["sandbox"] == 0  # as upstream, when nothing is kept


async def test_the_conversation_of_a_dead_worker_is_deleted_by_another_worker(
    redis: Redis, seal: Seal
) -> None:
    """The first worker records its conversation and makes no further call."""
    dead = Deletions(redis, seal, Upstream().delete, SOON)
    await ConversationRecord(dead, "fk-secret").note("conversation-1")
    upstream = Upstream()
    async with Deletions(redis, seal, upstream.delete, SOON).running():
        async with asyncio.timeout(30):
            await upstream.deleted.wait()
        await emptied(redis)
    assert upstream.asked == [("fk-secret", "conversation-1")]


HEARTBEAT, LEASE, HOLD = 10.0, 36.0, 46.0
"""Seconds on a clock that the test moves; a conversation counts as over after `HOLD`."""


@pytest.fixture
async def clock(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all deletions of the test, in a Redis that is not disturbed."""
    stop_clock_of_deletions(monkeypatch)
    return await Clock.at_redis_time(redis)


@pytest.fixture
def start(redis: Redis, seal: Seal) -> Callable[..., Deletions]:
    """Function that makes the deletions of a worker; the test takes their steps."""
    config = settings.Queue(lease=LEASE, heartbeat=HEARTBEAT)
    return lambda upstream, **more: Deletions(redis, seal, upstream.delete, config, **more)


async def beat(clock: Clock, *workers: Deletions, seconds: float) -> None:
    """Let time pass with the heartbeats of these workers in it."""
    for _ in range(round(seconds / HEARTBEAT)):
        await clock.advance(HEARTBEAT)
        for worker in workers:
            await worker._renew()
            await worker._sweep()


async def test_a_conversation_is_not_deleted_while_it_goes_on(
    clock: Clock, start: Callable[..., Deletions]
) -> None:
    upstream = Upstream()
    holder, other, dead = start(upstream), start(upstream), start(upstream)
    record = ConversationRecord(holder, "fk-secret")
    await record.note("conversation-1")
    await ConversationRecord(dead, "fk-secret").note("conversation-2")
    await beat(clock, holder, other, seconds=4 * HOLD)
    assert upstream.asked == [("fk-secret", "conversation-2")]
    record.end()
    await beat(clock, holder, other, seconds=HEARTBEAT)
    assert upstream.asked[1:] == [("fk-secret", "conversation-1")]


async def test_a_conversation_that_goes_on_through_a_redis_outage_is_not_deleted(
    clock: Clock, start: Callable[..., Deletions]
) -> None:
    """Its record could not be renewed; the first worker to reach Redis again must not take that
    for its end."""
    upstream = Upstream()
    holder, other = start(upstream), start(upstream)
    await beat(clock, other, seconds=2 * HOLD)
    record = ConversationRecord(holder, "fk-secret")
    await record.note("conversation-1")
    await clock.advance(2 * HOLD)  # no calls
    await other._sweep()
    await beat(clock, other, holder, seconds=4 * HOLD)
    assert upstream.asked == []
    record.end()
    await beat(clock, holder, seconds=HEARTBEAT)
    assert upstream.asked == [("fk-secret", "conversation-1")]


async def test_a_slow_deletion_does_not_delay_the_renewal_of_other_conversations(
    redis: Redis, seal: Seal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    stuck, let_go = asyncio.Event(), asyncio.Event()
    renewals = 0
    renew = Deletions._renew

    async def slowly(bearer: str, conversation_id: str) -> bool:
        stuck.set()
        await let_go.wait()
        return True

    async def counted(deletions: Deletions) -> None:
        nonlocal renewals
        await renew(deletions)
        renewals += deletions is holder

    async def renewed() -> None:
        """Wait for a renewal that began after this call."""
        before = renewals
        while renewals < before + 2:
            await asyncio.sleep(0.01)

    monkeypatch.setattr(Deletions, "_renew", counted)
    holder = Deletions(redis, seal, slowly, SOON)
    other = Deletions(redis, seal, upstream.delete, SOON)
    for _ in range(10):
        await clock.advance(SOON.heartbeat)
        await other._sweep()
    async with holder.running(), asyncio.timeout(30):
        over = ConversationRecord(holder, "fk-secret")
        record = ConversationRecord(holder, "fk-secret")
        await over.note("conversation-1")
        await record.note("conversation-2")
        over.end()
        await stuck.wait()
        for _ in range(10):
            await clock.advance(SOON.heartbeat)
            await renewed()
            await other._sweep()
        assert upstream.asked == []
        record.end()
        await renewed()
        await other._sweep()
        assert upstream.asked == [("fk-secret", "conversation-2")]
        let_go.set()


async def test_a_refused_deletion_is_repeated_until_it_succeeds(
    redis: Redis,
    clock: Clock,
    start: Callable[..., Deletions],
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream = Upstream(refusals=2)
    deletions = start(upstream)
    await beat(clock, deletions, seconds=2 * HOLD)
    record = ConversationRecord(deletions, "fk-secret")
    await record.note("conversation-1")
    record.end()
    await beat(clock, deletions, seconds=10 * HEARTBEAT)
    assert upstream.deleted.is_set()
    assert len(upstream.asked) == 3
    assert not await redis.keys("gateway:deletion*")
    assert "stays" not in caplog.text


async def test_a_deletion_that_is_always_refused_is_repeated_less_and_less_often_until_max_age(
    redis: Redis,
    clock: Clock,
    start: Callable[..., Deletions],
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream = Upstream(refusals=1000)
    deletions = start(upstream, max_age=100 * HEARTBEAT)
    await beat(clock, deletions, seconds=2 * HOLD)
    record = ConversationRecord(deletions, "fk-secret")
    await record.note("conversation-1")
    record.end()
    tries: list[int] = []
    for n in range(200):
        await beat(clock, deletions, seconds=HEARTBEAT)
        tries += [n] * (len(upstream.asked) - len(tries))
    assert 2 < len(tries) < 20
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 10
    assert "could not be deleted in time" in caplog.text
    assert not await redis.keys("gateway:deletion*")


async def test_redis_holds_neither_bearer_nor_conversation_in_the_clear(
    redis: Redis, seal: Seal
) -> None:
    record = ConversationRecord(Deletions(redis, seal, Upstream().delete, SOON), "fk-secret")
    await record.note("conversation-1")
    dump = b""
    for key in await redis.keys("*"):
        kind = await redis.type(key)
        dump += key
        dump += b"".join(await redis.zrange(key, 0, -1)) if kind == b"zset" else b""
        dump += await redis.get(key) if kind == b"string" else b""
        assert kind in (b"zset", b"string")
    assert len(await redis.keys("gateway:deletion*")) == 2
    assert b"secret" not in dump
    assert b"conversation-1" not in dump


async def test_an_unreachable_redis_does_not_fail_the_answer_of_a_conversation_to_delete(
    redis: Redis, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    deletions = Deletions(redis, seal, upstream.delete, SOON)
    working = deletions._note

    async def away(**_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(deletions, "_note", away)
    record = ConversationRecord(deletions, "fk-secret")
    await record.note("conversation-1")
    record.end()
    monkeypatch.setattr(deletions, "_note", working)
    async with deletions.running(), asyncio.timeout(30):
        await upstream.deleted.wait()
