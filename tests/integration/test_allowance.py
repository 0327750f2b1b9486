"""Limits of an issued key, which the line counts in the call that admits a job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from app.line import line_key
from benchmarks.line import WholeLine
from tests.support.issued import issue
from tests.support.line import LASTING, finish, has_worker, new, serve, shared
from wire.keyring import Keyring, identity
from wire.line.admission import Accepted, Admission, Allowance, Attached, Refused
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.seal import Seal

NOON = 1_700_000_000.0


@pytest.fixture
async def stopped(redis: Redis, seal: Seal) -> WholeLine:
    """A line under a stopped clock, with a shared upstream of one account."""
    queue = WholeLine(redis, seal, LASTING, stopped_clock=True)
    await queue.set_clock(NOON)
    await has_worker(redis, seal, stopped_clock=True)
    await serve(queue, shared("gpu", "chat:a", slots=10))
    return queue


async def ask(queue: WholeLine, number: int, issued: str, **more: Any) -> Admission | None:
    fields: dict[str, Any] = {"lane": "chat:a", "own_slots": 0, "issued": issued} | more
    job = new(f"job-{number}", **fields)
    return await queue.enqueue(job, b"body")


async def accepted(queue: WholeLine, number: int, issued: str, **more: Any) -> Accepted:
    admission = await ask(queue, number, issued, **more)
    assert isinstance(admission, Accepted), admission
    return admission


async def refused(queue: WholeLine, number: int, issued: str, **more: Any) -> Refused:
    admission = await ask(queue, number, issued, **more)
    assert isinstance(admission, Refused), admission
    return admission


async def claim(queue: WholeLine) -> list[Claim]:
    return await queue.claim("w", 100, ["gpu"])


async def test_a_minute_has_as_many_requests_as_the_record_says(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, requests_per_minute=3)
    for n, second in enumerate((0, 10, 20)):
        await stopped.set_clock(NOON + second)
        left = (await accepted(stopped, n, key)).allowance
        assert left == Allowance(3, 2 - n, 60.0)
    await stopped.set_clock(NOON + 25)
    assert await refused(stopped, 3, key) == Refused(
        "rate_limited", 35.0, allowance=Allowance(3, 0, 55.0)
    )
    await stopped.set_clock(NOON + 59.999)
    assert (await refused(stopped, 3, key)).retry_after == pytest.approx(0.001)
    await stopped.set_clock(NOON + 60)
    await accepted(stopped, 4, key)
    assert (await refused(stopped, 5, key)).retry_after == 10.0


async def test_any_number_of_front_ends_share_the_requests_of_a_minute(
    redis: Redis, seal: Seal, queue: WholeLine
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=10))
    key = await issue(redis, requests_per_minute=60)
    config = replace(LASTING, max_waiting=10_000)
    fronts = [queue, *(WholeLine(redis, seal, config) for _ in range(2))]
    admissions = await asyncio.gather(*(ask(fronts[n % 3], n, key) for n in range(300)))
    refusals = [one.reason for one in admissions if isinstance(one, Refused)]
    assert refusals == ["rate_limited"] * 240


async def test_a_change_of_the_record_holds_for_the_next_request(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, requests_per_minute=1)
    await accepted(stopped, 0, key)
    assert (await refused(stopped, 1, key)).reason == "rate_limited"
    await issue(redis, requests_per_minute=2)
    await stopped.set_clock(NOON + 1)
    await accepted(stopped, 1, key)
    await issue(redis, requests_per_minute=1)
    assert (await refused(stopped, 2, key)).retry_after == 60.0  # until both have left the window
    await issue(redis, requests_per_minute=0)
    assert (await accepted(stopped, 2, key)).allowance is None


async def test_a_clock_that_was_set_back_does_not_block_a_key(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, requests_per_minute=1)
    await stopped.set_clock(NOON + 5)
    await accepted(stopped, 0, key)
    await stopped.set_clock(NOON)
    await accepted(stopped, 1, key)
    assert (await refused(stopped, 2, key)).retry_after == 60.0


async def test_only_accepted_requests_count(redis: Redis, stopped: WholeLine) -> None:
    key = await issue(redis, requests_per_minute=2)
    await accepted(stopped, 0, key, idem="named", digest="d")
    assert await ask(stopped, 0, key) is None  # a repetition of the call
    assert await ask(stopped, 1, key, idem="named", digest="d") == Attached("job-0")
    assert (await refused(stopped, 2, key, lane="chat:unserved")).reason == "no_worker"
    await accepted(stopped, 3, key)
    assert (await refused(stopped, 4, key)).reason == "rate_limited"


async def test_a_job_that_redis_lost_is_neither_refused_nor_counted(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, requests_per_minute=1)
    await accepted(stopped, 0, key)
    left = (await accepted(stopped, 1, key, accepted=True)).allowance
    assert left == Allowance(1, 0, 60.0)
    await issue(redis, revoked=1)
    await accepted(stopped, 2, key, accepted=True)


@pytest.mark.parametrize(
    "fields", [{"revoked": int(NOON) - 1}, {"expires": int(NOON)}], ids=["revoked", "expired"]
)
async def test_a_key_that_is_not_valid_any_more_is_refused(
    redis: Redis, stopped: WholeLine, fields: dict[str, int]
) -> None:
    key = await issue(redis, expires=round(NOON) + 1)
    await accepted(stopped, 0, key)
    await issue(redis, key, **fields)
    assert await refused(stopped, 1, key) == Refused("key_revoked", 0.0, kept=False)
    assert await redis.exists("gateway:key:key") == 1
    assert (await refused(stopped, 1, "unknown")).reason == "key_revoked"


async def test_a_refused_request_costs_no_place(redis: Redis, stopped: WholeLine) -> None:
    key = await issue(redis, requests_per_minute=1)
    await accepted(stopped, 0, key)
    before = set(await redis.keys("*"))
    for n in range(1, 4):
        await refused(stopped, n, key)
    assert set(await redis.keys("*")) == before


async def test_a_key_waits_no_longer_than_its_record_allows(
    redis: Redis, stopped: WholeLine
) -> None:
    await serve(stopped, shared("gpu", "chat:a", slots=1))
    key = await issue(redis, max_wait=0)
    await accepted(stopped, 0, key)
    await claim(stopped)
    assert (await refused(stopped, 1, key)).reason == "wait_too_long"
    await issue(redis, max_wait=None)
    await accepted(stopped, 1, key)


async def test_a_key_has_as_many_waiting_jobs_as_its_record_allows(
    redis: Redis, stopped: WholeLine
) -> None:
    await serve(stopped, shared("gpu", "chat:a", slots=1))
    key = await issue(redis, max_waiting=2)
    for n in range(2):
        await accepted(stopped, n, key)
    assert (await refused(stopped, 2, key)).reason == "key_full"


async def test_the_record_says_how_many_jobs_of_a_key_run_at_once_and_its_weight(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, max_running=2, weight=3.0)
    for n in range(4):
        await accepted(stopped, n, key)
    assert len(await claim(stopped)) == 2
    assert await redis.hmget("gateway:key:key", ["cap", "weight"]) == [b"2", b"3"]  # type: ignore[misc]  # redis-py: sync or async


async def test_a_raised_or_lowered_cap_holds_for_jobs_that_wait_already(
    redis: Redis, seal: Seal, stopped: WholeLine
) -> None:
    keyring = Keyring(redis, seal)
    _, record = await keyring.new("bot", {"max_running": 1})
    for n in range(5):
        await accepted(stopped, n, record.id, key=line_key(seal, identity(record.id)))
    [first] = await claim(stopped)
    assert await claim(stopped) == []

    async def change(most: int) -> None:
        await keyring.set(record.id, {"max_running": most})

    await change(3)
    assert [one.id for one in await claim(stopped)] == ["job-1", "job-2"]
    await change(4)  # a job has a seat, and loses it again
    await change(2)
    await finish(stopped, first)
    assert await claim(stopped) == []
    await change(0)
    assert [one.id for one in await claim(stopped)] == ["job-3", "job-4"]


async def test_the_refusal_of_the_next_request_is_known_before_it_is_made(
    redis: Redis, stopped: WholeLine
) -> None:
    key = await issue(redis, requests_per_minute=1)
    assert await stopped.refusal(key) is None
    await accepted(stopped, 0, key)
    assert await stopped.refusal(key) == await refused(stopped, 1, key)
    unlimited = await issue(redis, "f" * 16)
    assert await stopped.refusal(unlimited) is None


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_spent_budget_is_back_at_midnight_utc_of_the_next_day_or_month(
    redis: Redis, stopped: WholeLine, period: str
) -> None:
    january_31 = 1_738_281_600.0 + 23 * 3600  # 2025-01-31T23:00:00Z
    await stopped.set_clock(january_31)
    await serve(stopped, shared("gpu", "chat:a", slots=10))
    budget: dict[str, Any] = {"budget_unit": "requests", f"budget_{period}": 2}
    key = await issue(redis, **budget)
    for n in range(2):
        await accepted(stopped, n, key, book=key, model="m")
    assert await refused(stopped, 2, key) == Refused("budget_spent", 3600.0, kept=False)
    await stopped.set_clock(january_31 + 3600)
    await serve(stopped, shared("gpu", "chat:a", slots=10))
    await accepted(stopped, 3, key, book=key, model="m")


async def test_a_budget_of_the_month_lasts_until_its_end(redis: Redis, stopped: WholeLine) -> None:
    for unit in ("tokens", "units"):
        key = await issue(redis, budget_unit=unit, budget_month=100)
        await redis.hset(f"gateway:spent:{key}:2023-11", unit, "99.5")  # type: ignore[misc]  # redis-py: sync or async
        await accepted(stopped, len(unit), key)
        await redis.hset(f"gateway:spent:{key}:2023-11", unit, "100")  # type: ignore[misc]  # redis-py: sync or async
        days = (await refused(stopped, 2, key)).retry_after / 86_400
        assert 16 < days < 17  # from the evening of November 14th
