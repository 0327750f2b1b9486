"""The line's scripts on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.clock import Clock
from tests.support.line import (
    ENTRY,
    FRAMES,
    QUICK,
    claim,
    enqueue,
    field,
    finish,
    has_worker,
    ids,
    lapse,
    new,
    now,
    present,
)
from wire import VERSION
from wire.line import keys
from wire.line.admission import Refused
from wire.line.claims import Claim, Requeued
from wire.line.commands import Cancel, decode_command
from wire.line.presence import Presence
from wire.line.view import UnknownReply
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.endings import WAITED_TOO_LONG, finish_waiting


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(queue=QUICK)


async def test_jobs_are_claimed_in_the_order_they_came(queue: WholeLine) -> None:
    for n in range(5):
        await enqueue(queue, f"job-{n}", key=f"account-{n}")
    claims = await claim(queue)
    assert ids(claims) == [f"job-{n}" for n in range(5)]
    assert all(c.attempt > 0 and c.body == b"body" and c.front_ends == ["front"] for c in claims)


async def test_the_cap_of_the_whole_upstream_holds_however_many_workers_claim(
    queue: WholeLine,
) -> None:
    for n in range(110):
        await enqueue(queue, f"job-{n}", key=f"account-{n}")
    assert len(await claim(queue, want=98, worker="w1")) == 98
    assert len(await queue.claim("w2", 10)) == 2
    assert await queue.claim("w3", 10) == []


async def test_an_account_holds_no_more_than_its_cap_and_blocks_nobody(queue: WholeLine) -> None:
    for n in range(3):
        await enqueue(queue, f"full-{n}", key="full")
    for n in range(3):
        await enqueue(queue, f"pool-{n}", key="pool", own_slots=2)
    await enqueue(queue, "other", key="other")
    first = await claim(queue)
    assert ids(first) == ["full-0", "pool-0", "other", "pool-1"], (
        "a key's second comes after others' first"
    )
    assert await finish(queue, first[0])
    assert ids(await claim(queue)) == ["full-1"]


async def test_a_claimed_job_is_out_of_the_waiting_set(queue: WholeLine, redis: Redis) -> None:
    await enqueue(queue, "job")
    assert await redis.zcard(queue.queue_key("chat")) == 1
    await claim(queue)
    assert await redis.zcard(queue.queue_key("chat")) == 0


async def test_a_finished_job_leaves_only_keys_that_expire(queue: WholeLine, redis: Redis) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)
    await queue.begin(claimed, ENTRY, FRAMES)
    assert await finish(queue, claimed)
    left = {key.decode() for key in await redis.keys("*")} - {"gateway:workers:347705b9"}
    (usage,) = {key for key in left if key.startswith("gateway:usage:")}
    assert 91 * 24 * 3600 * 1000 < await redis.pttl(usage) <= 92 * 24 * 3600 * 1000
    expiring = {
        "gateway:account:key",
        "gateway:key:key",
        "gateway:users:key",
        "gateway:job:job",
        keys.log("job"),
        keys.front_end("front"),
        keys.worker("w"),
        keys.worker("steady"),
        "gateway:fingerprints",
        "gateway:upstream:main",
    }
    assert left - expiring == {
        usage,
        "gateway:counted",
        "gateway:upstreams",
        "gateway:serves:main",
        "gateway:servers:chat",
        "gateway:servers:images",
        "gateway:pulse",
        "gateway:bytes",
        "gateway:lane:chat",
        "gateway:service",
        "gateway:metrics",
        "gateway:endings",
        "gateway:version",
    }
    assert await redis.get("gateway:bytes") == b"0"
    for key in expiring & left:
        assert 0 < await redis.pttl(key) <= 24 * 3600 * 1000
    assert await field(redis, "gateway:job:job", "body") is None


async def test_only_one_ending_is_ever_accepted(queue: WholeLine) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)
    outcomes = await asyncio.gather(*(finish(queue, claimed) for _ in range(10)))
    assert sorted(outcomes) == [False] * 9 + [True]


async def test_a_stale_attempt_can_neither_begin_nor_finish_nor_cool_down_its_account(
    queue: WholeLine,
) -> None:
    await enqueue(queue, "job")
    (stale,) = await claim(queue)
    assert await queue.requeue(stale) == "requeued"
    (current,) = await claim(queue)
    assert current.attempt > stale.attempt
    assert not await queue.begin(stale, ENTRY, FRAMES)
    assert not await finish(queue, stale)
    assert await queue.cool_down(stale, 5, 60) == "not_current"
    assert await queue.requeue(stale) == "not_current"
    assert await finish(queue, current)


async def test_a_requeued_job_gets_its_old_place(queue: WholeLine) -> None:
    for n in range(3):
        await enqueue(queue, f"job-{n}", key=f"account-{n}")
    (first,) = await claim(queue, want=1)
    assert await queue.requeue(first) == "requeued"
    assert ids(await claim(queue)) == ["job-0", "job-1", "job-2"]


async def test_a_busy_account_cools_down_and_its_job_is_claimed_first_afterwards(
    queue: WholeLine,
) -> None:
    for n in range(2):
        await enqueue(queue, f"job-{n}", key="busy")
    await enqueue(queue, "free", key="free")
    (first,) = await claim(queue, want=1)
    assert await queue.cool_down(first, 0.5, 2) == "requeued"
    assert ids(await claim(queue)) == ["free"], "the account's other job must rest too"
    claims: list[Claim] = []
    while not claims:
        claims = await claim(queue)
    assert ids(claims) == ["job-0"]


async def test_each_further_cool_down_is_twice_as_long_until_an_answer_begins(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job")

    claims: list[Claim] = []
    for expected in (200, 400, 600):
        while not claims:
            claims = await claim(queue)
        before = await now(redis)
        await queue.cool_down(claims.pop(), 0.2, 0.6)
        until = float(await redis.zscore("gateway:later", "account key") or 0)
        assert before + expected <= until <= await now(redis) + expected
    while not claims:
        claims = await claim(queue)
    await queue.begin(claims[0], ENTRY, FRAMES)
    assert await field(redis, "gateway:account:key", "rest") is None


async def test_a_renewed_lease_is_kept_and_a_job_with_an_expired_one_is_requeued(
    queue: WholeLine,
) -> None:
    await enqueue(queue, "kept", key="a")
    await enqueue(queue, "dead", key="b")
    kept, dead = await claim(queue)
    assert await lapse(queue, kept) == (1, [])
    assert ids(await claim(queue)) == ["dead"]
    assert not await finish(queue, dead)
    assert await finish(queue, kept)


async def test_a_published_job_is_not_retried_when_its_worker_dies(
    queue: WholeLine,
) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)
    assert await queue.begin(claimed, ENTRY, FRAMES)
    back, (lapsed,) = await lapse(queue)
    assert (back, lapsed.id, lapsed.attempt, lapsed.cancelled) == (
        0,
        "job",
        claimed.attempt,
        None,
    )
    assert await queue.finish(lapsed.id, lapsed.attempt, "failed", ENTRY, FRAMES)
    assert await queue.reap() == (0, [])


async def test_a_job_that_kills_its_workers_is_given_up(queue: WholeLine) -> None:
    await enqueue(queue, "job")
    for _ in range(2):
        await claim(queue)
        assert await lapse(queue) == (1, [])
    await claim(queue)
    back, (lapsed,) = await lapse(queue)
    assert (back, lapsed.id) == (0, "job")


async def test_no_lease_is_reclaimed_for_a_lease_period_after_a_disturbance(
    redis: Redis, seal: Seal
) -> None:
    queue = WholeLine(redis, seal, QUICK, stopped_clock=True)
    clock = await Clock.at_redis_time(redis)
    await has_worker(redis, seal, stopped_clock=True)
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)
    await clock.advance(QUICK.lease * 1.5)  # no calls: a partition, or a frozen Redis
    assert await queue.reap() == (0, [])
    assert await queue.claim("w2", 10) == []
    for _ in range(round(QUICK.lease * 1.2 / QUICK.heartbeat)):
        assert await present(queue, claimed) == []
        await clock.advance(QUICK.heartbeat)
    assert await queue.reap() == (0, [])
    assert await finish(queue, claimed)


async def test_a_cancelled_job_leaves_the_line_at_once(queue: WholeLine, redis: Redis) -> None:
    for n in range(3):
        await enqueue(queue, f"job-{n}")
    assert await queue.cancel("job-0") == "cancelled"
    assert await queue.cancel("job-1") == "cancelled"
    assert ids(await claim(queue)) == ["job-2"]
    assert await queue.cancel("job-0") == "gone"
    assert await queue.cancel("never") == "gone"


async def test_a_cancellation_that_overtakes_its_job_still_counts(queue: WholeLine) -> None:
    """A client disconnected while its job was being enqueued; the job then ran without a reader."""
    assert await queue.cancel("job") == "gone"
    assert await queue.enqueue(new("job"), b"body") is None
    assert await claim(queue) == []


async def test_a_cancellation_reaches_the_worker_by_message_and_by_heartbeat(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue, worker="w")
    pubsub = redis.pubsub()
    await pubsub.subscribe(keys.worker("w"))
    await pubsub.get_message(timeout=30)
    assert await queue.cancel("job") == "running"
    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=30)
    assert message is not None
    assert decode_command(message["data"]) == Cancel("job", claimed.attempt)
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    assert "cancel" in await present(queue, claimed), "the message may have been lost"


async def test_jobs_of_a_front_end_that_died_are_dropped_when_their_turn_comes(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "kept", key="a")
    await enqueue(queue, "orphan", key="b", front="dead")
    await queue.presences.remove_front_end("dead")
    await enqueue(queue, "next", key="b")
    assert ids(await claim(queue)) == ["kept", "next"]
    assert not await queue.exists("orphan"), "had it only been frozen, it would enqueue it again"


async def test_the_worker_of_a_job_whose_front_end_died_gets_the_verdict_cancel(
    queue: WholeLine,
) -> None:
    await enqueue(queue, "orphan", front="dead")
    (claimed,) = await claim(queue)
    async with asyncio.timeout(30):
        while "cancel" not in await present(queue, claimed):
            await asyncio.sleep(0.05)


async def test_a_job_enqueued_twice_is_in_line_once(queue: WholeLine) -> None:
    await enqueue(queue, "job")
    assert await queue.enqueue(new("job"), b"other") is None
    assert ids(await claim(queue)) == ["job"]


async def test_a_place_counts_the_jobs_ahead(queue: WholeLine) -> None:
    for n in range(3):
        await enqueue(queue, f"mine-{n}", key="mine")
    await enqueue(queue, "other", key="other")

    async def place(id: str, key: str) -> int | None:
        found = await queue.status(id, key)
        assert found is not None
        return found.position

    assert [await place(f"mine-{n}", "mine") for n in range(3)] == [1, 3, 4]
    assert await place("other", "other") == 2
    await claim(queue, want=1)
    assert await place("mine-0", "mine") is None
    assert await place("other", "other") == 1


@pytest.mark.parametrize("count", [3])
async def test_racing_workers_never_share_a_job(queue: WholeLine, count: int) -> None:
    for n in range(60):
        await enqueue(queue, f"job-{n}", key=f"account-{n}")
    await claim(queue, want=1)
    claimed = await asyncio.gather(*(queue.claim(f"w{n % count}", 3) for n in range(30)))
    everything = [c.id for claims in claimed for c in claims]
    assert len(everything) == len(set(everything)) == 59


@pytest.mark.parametrize("running", [False, True])
async def test_a_job_whose_record_expired_does_not_keep_its_seat(
    queue: WholeLine, redis: Redis, *, running: bool
) -> None:
    """All roles were down for longer than a day, or Redis evicted the record: the account was
    blocked forever."""
    await enqueue(queue, "old")
    if running:
        await claim(queue)
    await redis.delete("gateway:job:old")
    await enqueue(queue, "new")
    assert ids(await claim(queue)) == ["new"]


async def test_a_job_cancelled_before_it_is_requeued_is_finished_instead(
    queue: WholeLine, redis: Redis
) -> None:
    """It was closed without publishing it: the client that cancelled it waited, and the job was
    enqueued again."""
    puts_back: list[Callable[[Claim], Awaitable[Requeued]]] = [
        lambda claimed: queue.cool_down(claimed, 0.1, 0.1),
        lambda claimed: queue.park(claimed, 0.1),
        lambda claimed: queue.retry(claimed, 0.1, 0.1, 5),
        queue.requeue,
    ]
    for number, put_back in enumerate(puts_back):
        id = f"job-{number}"
        await enqueue(queue, id, key=id)
        (claimed,) = await claim(queue)
        assert await queue.cancel(id) == "running"
        assert await put_back(claimed) == "cancelled"
        assert await field(redis, f"gateway:job:{id}", "state") == b"running"
        assert await finish(queue, claimed)


async def test_a_front_end_that_enqueues_counts_as_alive(queue: WholeLine) -> None:
    """A first request arrived before the first heartbeat of the front end, and was dropped."""
    await enqueue(queue, "job", front="new")
    assert ids(await claim(queue)) == ["job"]


async def test_a_stopping_worker_does_not_count_for_admission(
    queue: WholeLine, redis: Redis, seal: Seal
) -> None:
    await queue.presences.remove_worker("steady")
    stopping = Presence("w", VERSION, seal.fingerprint, 0)
    await queue.renew(stopping, [])
    assert isinstance(await queue.enqueue(new("job"), b"body"), Refused)
    assert await queue.presences.workers() == []


async def test_a_job_whose_front_end_forgets_its_deadline_is_ended(
    redis: Redis, seal: Seal
) -> None:
    config = settings.Queue(lease=QUICK.lease, heartbeat=QUICK.heartbeat, max_wait=0.1)
    line = WholeLine(redis, seal, config, stopped_clock=True)
    clock = await Clock.at_redis_time(redis)
    await has_worker(redis, seal, stopped_clock=True)
    await enqueue(line, "job")
    await clock.advance(0.3)
    assert await line.overdue(60.0) == []
    assert await line.overdue(0.05) == [("job", ["front"])]
    assert await finish_waiting(line, seal, "job", ["front"], WAITED_TOO_LONG)
    assert await line.overdue(0.05) == []


async def test_the_snapshot_shows_an_open_circuit(queue: WholeLine) -> None:
    assert (await queue.snapshot()).open_for is None
    for n in range(5):
        await enqueue(queue, f"job-{n}", key=f"account-{n}")
    for claimed in await claim(queue):
        assert await queue.retry(claimed, 0.1, 1, 5) == "requeued"
    open_for = (await queue.snapshot()).open_for
    assert open_for is not None
    assert 0 < open_for <= 5


async def test_a_clock_that_is_set_back_delays_claims_only_briefly(
    queue: WholeLine, redis: Redis
) -> None:
    """The clock of Redis was set back by an hour: for that hour nothing was claimed, and the slots
    of dead workers were not freed."""
    await enqueue(queue, "lost", key="a")
    (lost,) = await claim(queue)
    hour = 3_600_000
    await redis.hincrby("gateway:pulse", "since", hour)  # type: ignore[misc]  # redis-py: sync or async
    await redis.hincrby("gateway:pulse", "at", hour)  # type: ignore[misc]  # as above
    await redis.zincrby("gateway:leases:main:chat", hour, lost.id)
    await enqueue(queue, "job", key="b")
    assert ids(await claim(queue)) == ["job"]
    assert await lapse(queue) == (1, [])


async def test_an_unknown_reply_of_a_script_is_an_error(
    queue: WholeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)

    async def unknown(name: str, *args: object) -> object:
        return [b"perhaps"] if name == "enqueue" else b"perhaps"

    monkeypatch.setattr(queue, "_run", unknown)
    calls: list[Awaitable[object]] = [
        queue.enqueue(new("other"), b"body"),
        queue.cancel("job"),
        queue.requeue(claimed),
    ]
    for call in calls:
        with pytest.raises(UnknownReply):
            await call
