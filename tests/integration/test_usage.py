"""The scripts count the usage of keys, each number in the call that changes the job."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from benchmarks.line import STOPPED_CLOCK, WholeLine
from tests.support.line import ENTRY, FRAMES, LASTING, claim, enqueue, field, has_worker, new
from tests.support.requests import BEARER, BODY, CHAT
from tests.support.sanic_adapter import Client
from wire.line.admission import Attached, Refused
from wire.line.claims import Claim
from wire.line.scripts import modules
from wire.line.scripts.linking import link
from wire.line.usage import Numbers, Tokens, Use, read_usage, total
from wire.redis.client import Redis
from wire.seal import Seal

FULL = replace(LASTING, max_bytes=1024)
IO = ("input", "output")
WORDS = (("input", "prompt"), ("output", "completion"))
KEY = "0123456789abcdef"
BOOKED: dict[str, Any] = {"book": KEY, "model": "gpt-4 (beta)", "units": 14.0}
COUNTED = f"{KEY} gpt-4%20%28beta%29"
DAY = "2026-02-28"
LATE = datetime(2026, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp()


@pytest.fixture
async def queue(redis: Redis, seal: Seal) -> WholeLine:
    """A line whose clock shows ten seconds to midnight until a test sets it."""
    slots = settings.Upstream(max_concurrency=100)
    line = WholeLine(redis, seal, LASTING, slots, stopped_clock=True)
    await line.set_clock(LATE)
    await line.presences.show_front_end("front")
    await has_worker(redis, seal, slots, stopped_clock=True)
    return line


async def of_day(redis: Redis, day: str = DAY, start: str = COUNTED) -> dict[str, float]:
    """The numbers of one day whose fields begin with these words."""
    fields = await redis.hgetall(f"gateway:usage:{day}")  # type: ignore[misc]  # redis-py: sync or async
    return {
        name.decode().removeprefix(f"{start} "): float(value)
        for name, value in fields.items()
        if name.decode().startswith(f"{start} ")
    }


async def spent(redis: Redis, period: str) -> dict[bytes, bytes]:
    return await redis.hgetall(f"gateway:spent:{KEY}:{period}")  # type: ignore[misc,no-any-return]  # redis-py: sync or async


async def end(queue: WholeLine, job: Claim, tokens: Tokens = Tokens(100, 20)) -> bool:  # noqa: B008 - frozen
    return await queue.finish(job.id, job.attempt, "done", ENTRY, FRAMES, tokens=tokens)


async def test_a_request_counts_when_it_is_accepted_and_all_else_when_it_ends(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job", **BOOKED)
    [job] = await claim(queue)
    assert await of_day(redis) == {"requests": 1}
    await queue.set_clock(LATE + 2.5)
    assert await end(queue, job)
    assert not await end(queue, job), "it ends once"
    used = {"input_tokens": 100, "output_tokens": 20, "slot_ms": 2500, "units": 14}
    assert await of_day(redis) == {"requests": 1, "ended:done": 1, **used}
    name = "gateway_usage_tokens_total"
    counted = [await field(redis, "gateway:metrics", f'{name}{{direction="{one}"}}') for one in IO]
    assert counted == [b"100", b"20"]
    expected = {b"requests": b"1", b"tokens": b"120", b"units": b"14"}
    assert await spent(redis, "2026-02-28") == await spent(redis, "2026-02") == expected


async def test_what_ends_on_the_next_day_or_in_the_next_month_counts_there(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job", **BOOKED)
    [job] = await claim(queue)
    await queue.set_clock(LATE + 10)
    assert await end(queue, job)
    assert await of_day(redis) == {"requests": 1}
    assert await spent(redis, "2026-02") == {b"requests": b"1"}
    assert (await of_day(redis, "2026-03-01"))["ended:done"] == 1
    assert await spent(redis, "2026-03") == {b"tokens": b"120", b"units": b"14"}


async def test_attempts_of_one_job_are_one_request_and_take_the_slot_time_of_all(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job", **BOOKED)
    for attempt in range(2):
        [job] = await claim(queue)
        await queue.set_clock(LATE + attempt + 1)
        assert await queue.requeue(job) == "requeued"
    [job] = await claim(queue)
    await queue.set_clock(LATE + 3)
    assert await end(queue, job)
    numbers = await of_day(redis)
    assert (numbers["requests"], numbers["ended:done"], numbers["units"]) == (1, 1, 14)
    assert numbers["slot_ms"] == 3000


async def test_a_request_that_attaches_to_a_job_and_one_that_is_refused_count_nothing(
    queue: WholeLine, redis: Redis
) -> None:
    named = {"idem": "named", "digest": "d"}
    await enqueue(queue, "job", **BOOKED, **named)
    assert isinstance(await queue.enqueue(new("again", **BOOKED, **named), b"body"), Attached)
    full = WholeLine(redis, Seal(b"a secret of the tests"), FULL, stopped_clock=True)
    assert isinstance(await full.enqueue(new("refused", bytes=2048, **BOOKED), b"body"), Refused)
    assert await of_day(redis) == {"requests": 1}


async def test_a_job_that_never_began_costs_no_units_and_one_that_began_costs_them(
    queue: WholeLine, redis: Redis
) -> None:
    for id in ("waits", "fails", "begins"):
        await enqueue(queue, id, key=id, **BOOKED)
    await queue.cancel("waits")
    jobs = {job.id: job for job in await claim(queue)}

    async def fail(id: str, reason: str) -> None:
        await queue.finish(id, jobs[id].attempt, "failed", ENTRY, FRAMES, reason=reason)

    await fail("fails", "upstream_down")
    assert await of_day(redis) == {"requests": 3, "ended:cancelled": 1, "ended:upstream_down": 1}
    assert await queue.begin(jobs["begins"], ENTRY, FRAMES)
    await fail("begins", "worker_lost")
    numbers = await of_day(redis)
    assert numbers["units"] == 14
    assert numbers["ended:worker_lost"] == 1


async def test_keys_that_the_upstream_judges_are_counted_together_and_have_no_budget(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job", model="gpt-4", units=0.5)
    [job] = await claim(queue)
    assert await end(queue, job)
    assert (await of_day(redis, start="passthrough gpt-4"))["units"] == 0.5
    assert await redis.keys("gateway:spent:*") == []


async def test_a_key_that_names_more_than_100_models_has_the_rest_counted_together(
    queue: WholeLine, redis: Redis
) -> None:
    for n in range(104):
        await enqueue(queue, f"job-{n}", **BOOKED | {"model": f"m{n}"})
    await enqueue(queue, "again", **BOOKED | {"model": "m7"})
    requests = await of_day(redis, start=KEY)
    assert requests["m7 requests"] == 2
    assert requests["other requests"] == 4
    assert len([name for name in requests if name.endswith(" requests")]) == 101
    await queue.cancel("job-103")
    assert (await of_day(redis, start=KEY))["other ended:cancelled"] == 1


async def test_usage_is_kept_for_as_long_as_the_settings_say(
    queue: WholeLine, redis: Redis
) -> None:
    await enqueue(queue, "job", **BOOKED, usage_days=3)
    assert 2.9 * 86400 < await redis.ttl("gateway:usage:2026-02-28") <= 3 * 86400
    assert 0 < await redis.ttl(f"gateway:spent:{KEY}:2026-02-28") <= 2 * 86400
    assert 31 * 86400 < await redis.ttl(f"gateway:spent:{KEY}:2026-02") <= 32 * 86400


async def test_scripts_know_what_a_key_has_spent_and_the_day_of_any_year(redis: Redis) -> None:
    linked = modules("fp") | {"clock": STOPPED_CLOCK}
    ask = "-- needs: usage\nreturn tostring(usage.spent(unpack(ARGV)))"
    day = redis.register_script(link("-- needs: calendar\nreturn calendar.day()", linked))
    days = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=211 * n) for n in range(240)]
    leaps = [datetime(year, 2, 28, tzinfo=UTC) for year in (2000, 2024, 2026, 2100)]
    for at in [*days, *leaps, *(leap + timedelta(hours=24) for leap in leaps)]:
        await redis.set("test:clock", round(at.timestamp() * 1e6))
        assert (await day()).decode() == at.date().isoformat()
    await redis.hset(f"gateway:spent:{KEY}:{at.date().isoformat()[:7]}", "units", "4.5")  # type: ignore[misc]  # redis-py: sync or async
    spent_in = redis.register_script(link(ask, linked))
    assert await spent_in(args=[KEY, "units", "month"]) == b"4.5"
    assert await spent_in(args=[KEY, "units", "day"]) == b"0"


async def test_numbers_are_read_by_day_key_and_model(queue: WholeLine, redis: Redis) -> None:
    await enqueue(queue, "one", **BOOKED)
    await enqueue(queue, "two", model="gpt 4")
    await queue.set_clock(LATE + 10)
    await queue.cancel("one")
    february, march = date(2026, 2, 28), date(2026, 3, 1)
    expected: dict[Use, Numbers] = {
        Use(february, KEY, "gpt-4 (beta)"): {"requests": 1},
        Use(february, "passthrough", "gpt 4"): {"requests": 1},
        Use(march, KEY, "gpt-4 (beta)"): {"ended:cancelled": 1},
    }
    assert await read_usage(redis, february, march) == expected
    assert list(await read_usage(redis, march, march)) == [Use(march, KEY, "gpt-4 (beta)")]
    assert await read_usage(redis, march, february) == {}
    assert total(expected.values()) == {"requests": 2, "ended:cancelled": 1}


async def test_a_chat_is_counted_with_the_tokens_that_its_answer_names(
    client: Client, redis: Redis
) -> None:
    answer = await client.post(CHAT, json=BODY, headers=BEARER)
    told = answer.json()["usage"]
    today = datetime.now(UTC).date()
    used = await read_usage(redis, today - timedelta(days=1), today)
    [use] = {(use.book, use.model) for use in used}
    assert use == ("passthrough", BODY["model"])
    numbers = total(used.values())
    assert numbers.pop("slot_ms", 0) >= 0
    tokens = {f"{name}_tokens": told[f"{word}_tokens"] for name, word in WORDS}
    assert numbers == {"requests": 1, "ended:done": 1, "units": 14} | tokens
