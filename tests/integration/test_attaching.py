"""Jobs with an idempotency key, in a real Redis: their readers, and their lifetime."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.clock import Clock
from tests.support.line import QUICK, claim, field, finish, has_worker, new, present
from wire.line.admission import Accepted, Attached, Clash, NewJob
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.channel import RedisChannel
from wire.upkeep.reaper import reap

GRACE = 1.0


@pytest.fixture
async def clock(redis: Redis) -> Clock:
    """The clock of the line."""
    return await Clock.at_redis_time(redis)


@pytest.fixture
async def queue(redis: Redis, seal: Seal, clock: Clock) -> WholeLine:
    """A line in which a job without a client is kept for `GRACE`."""
    config = settings.Queue(
        lease=4.0, heartbeat=QUICK.heartbeat, resume_grace=GRACE, keep_result=2.0
    )
    line = WholeLine(redis, seal, config, stopped_clock=True)
    await line.presences.show_front_end("front")
    await has_worker(redis, seal, stopped_clock=True)
    return line


def named(id: str, front: str = "front", digest: str = "same") -> NewJob:
    return new(id, front=front, idem="key", digest=digest)


async def waits_or_runs(queue: WholeLine, id: str) -> bool:
    found = await queue.status(id, "key")
    return found is not None and found.state in ("waiting", "running")


async def gone(queue: WholeLine, clock: Clock, id: str, *, present_again: bool = True) -> None:
    """Wait until a job has ended."""
    async with asyncio.timeout(30):
        while await waits_or_runs(queue, id):
            if present_again:
                await present(queue)
            await queue.reap()
            await clock.advance(0.05)


async def test_a_repeated_idempotency_key_attaches_to_the_same_job(
    queue: WholeLine, redis: Redis
) -> None:
    assert isinstance(await queue.enqueue(named("first"), b"body"), Accepted)
    for _ in range(3):  # one request, whose reply from Redis was lost
        assert await queue.enqueue(named("again", front="other"), b"body") == Attached("first")
    assert await field(redis, "gateway:job:first", "readers") == b"front/first other/again"
    assert await queue.enqueue(named("else", digest="else"), b"body") == Clash("mismatch")
    assert [c.id for c in await claim(queue)] == ["first"]
    found = await queue.status("unknown", "key", "key")
    assert found is not None
    assert found.id == "first"
    assert await queue.status("first", "another key") is None


async def test_a_client_with_part_of_an_answer_never_gets_another_answer(queue: WholeLine) -> None:
    resuming = msgspec.structs.replace(named("again"), resumes=True)
    assert await queue.enqueue(resuming, b"body") == Clash("lost")
    assert not await queue.exists("again")
    await queue.enqueue(named("first"), b"body")
    assert await queue.enqueue(resuming, b"body") == Attached("first")


async def test_a_job_with_an_idempotency_key_outlives_its_client_until_resume_grace(
    queue: WholeLine, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    await queue.detach("job", "job")
    assert await waits_or_runs(queue, "job")
    assert await queue.enqueue(named("again"), b"body") == Attached("job")
    await clock.advance(GRACE * 1.5)
    await queue.reap()
    assert await waits_or_runs(queue, "job"), "another reader is attached"
    await queue.detach("job", "again")
    await gone(queue, clock, "job")
    assert isinstance(await queue.enqueue(named("anew"), b"body"), Accepted)


async def test_a_job_goes_on_if_its_front_end_was_only_frozen(
    queue: WholeLine, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    await queue.presences.remove_front_end("front")
    async with asyncio.timeout(30):
        while not (claims := await queue.claim("w", 1)):
            await clock.advance(0.05)
    await queue.presences.show_front_end("front")
    await clock.advance(GRACE * 1.5)
    await queue.reap()
    assert "cancel" not in await present(queue, claims[0])
    assert await waits_or_runs(queue, "job")


async def test_a_finished_answer_is_kept_and_a_failed_job_frees_its_idempotency_key(
    queue: WholeLine, redis: Redis, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    (claimed,) = await claim(queue)
    await queue.begin(claimed, b"entry", {})
    assert await finish(queue, claimed)
    assert await queue.enqueue(named("again"), b"body") == Attached("job")
    async with asyncio.timeout(30):
        while not isinstance(await queue.enqueue(named("later"), b"body"), Accepted):
            await present(queue)
            await clock.advance(0.1)
    (claimed,) = await claim(queue)
    assert await queue.finish("later", claimed.attempt, "failed", b"entry", {})
    assert isinstance(await queue.enqueue(named("anew"), b"body"), Accepted)


async def test_a_job_ended_early_by_a_satisfied_reader_is_done_and_kept(queue: WholeLine) -> None:
    await queue.enqueue(named("job"), b"body")
    (claimed,) = await claim(queue)
    await queue.detach("job", "job", enough=True)
    assert "cancel" in await present(queue, claimed)
    assert await queue.finish("job", claimed.attempt, "cancelled", b"entry", {})
    found = await queue.status("job", "key")
    assert found is not None
    assert found.state == "done"
    assert await queue.enqueue(named("again"), b"body") == Attached("job")


async def test_an_answer_cut_by_a_satisfied_reader_is_not_kept_if_its_worker_dies(
    queue: WholeLine, seal: Seal, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    (claimed,) = await claim(queue)
    await queue.begin(claimed, b"entry", {})
    await queue.detach("job", "job", enough=True)
    async with asyncio.timeout(5):
        while await waits_or_runs(queue, "job"):
            await queue.presences.show_front_end("front")
            await reap(queue, RedisChannel(queue.redis), seal)
            await clock.advance(0.05)
    assert isinstance(await queue.enqueue(named("anew"), b"body"), Accepted)


async def test_a_reader_in_a_dead_front_end_no_longer_keeps_a_job_running(
    queue: WholeLine, clock: Clock
) -> None:
    """A client reconnected to another front end and disconnected: the job ran to its end without a
    reader, as the reader in the dead front end still counted."""
    await queue.enqueue(named("job", front="dies"), b"body")
    assert await queue.enqueue(named("again"), b"body") == Attached("job")
    await queue.presences.remove_front_end("dies")
    await queue.detach("job", "again")
    await gone(queue, clock, "job")


async def test_a_reader_that_detaches_does_not_end_the_job_of_the_others(
    queue: WholeLine, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    for id in ("again", "and-again"):
        assert await queue.enqueue(named(id), b"body") == Attached("job")
    for _ in range(3):
        await queue.detach("job", "again")
    await queue.detach("job", "job")
    await clock.advance(GRACE * 1.5)
    await queue.reap()
    assert await waits_or_runs(queue, "job"), "there is one reader yet"
    await queue.detach("job", "and-again")
    await gone(queue, clock, "job")


async def test_a_job_that_is_being_cancelled_frees_its_idempotency_key_at_once(
    queue: WholeLine,
) -> None:
    """A client that repeated its request right after the cancellation got the cancellation instead
    of an answer."""
    await queue.enqueue(named("job"), b"body")
    (claimed,) = await claim(queue)
    assert await queue.cancel("job") == "running"
    assert isinstance(await queue.enqueue(named("anew"), b"body"), Accepted)
    assert await queue.finish("job", claimed.attempt, "cancelled", b"entry", {})
    assert await queue.enqueue(named("again"), b"body") == Attached("anew"), "the key is its own"


async def test_a_job_that_redis_lost_does_not_take_its_key_from_a_newer_job(
    queue: WholeLine,
) -> None:
    """Its client reconnected before its front end had enqueued it again: it was attached to the
    other job each time, and its own reply never got an event."""
    await queue.enqueue(named("anew"), b"body")
    forgotten = msgspec.structs.replace(named("job"), accepted=True)
    assert isinstance(await queue.enqueue(forgotten, b"body"), Accepted)
    await queue.cancel("job")
    assert await queue.enqueue(named("again"), b"body") == Attached("anew")


async def test_a_client_that_disconnects_while_being_attached_is_no_longer_a_reader(
    queue: WholeLine, clock: Clock
) -> None:
    """A client reconnected and disconnected before the reply of Redis that it was attached had
    arrived: it was detached from the job of its own request, which never existed, and the other
    job ran on without a reader."""
    await queue.enqueue(named("job"), b"body")
    assert await queue.enqueue(named("again"), b"body") == Attached("job")
    await queue.detach("again", "again", idempotency="key")
    await queue.detach("job", "job")
    await gone(queue, clock, "job")


async def test_a_client_that_disconnects_before_its_enqueue_is_not_attached(
    queue: WholeLine, clock: Clock
) -> None:
    await queue.enqueue(named("job"), b"body")
    await queue.detach("again", "again", idempotency="key")
    assert await queue.enqueue(named("again"), b"body") is None
    await queue.detach("job", "job")
    await gone(queue, clock, "job")


async def test_an_orphaned_job_with_a_full_log_is_cancelled_without_a_grace(
    queue: WholeLine, clock: Clock
) -> None:
    """Its front end died: the job ran on for the grace, although no client could have been
    attached."""
    await queue.enqueue(named("job", front="dies"), b"body")
    (claimed,) = await claim(queue)
    await queue.stop_logging(claimed)
    await queue.presences.remove_front_end("dies")
    said: list[str] = []
    async with asyncio.timeout(30):
        while not said:
            said = await present(queue, claimed)
            await queue.reap()  # which finishes orphaned jobs
            await clock.advance(0.05)
    assert await queue.enqueue(named("again"), b"body") == Clash("lost"), "it was not cancelled"
