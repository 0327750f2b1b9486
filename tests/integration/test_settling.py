"""The time after a disturbance in which nothing is claimed: told to clients and operators.

Invariant 1 needs it: workers may hold conversations that a Redis without its data does not know.
"""

from __future__ import annotations

import pytest

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from tests.support.clock import Clock
from tests.support.line import enqueue, new
from wire import VERSION
from wire.line.admission import Accepted, Refused
from wire.line.presence import Presence
from wire.line.scripts import note_new
from wire.redis.client import Redis
from wire.seal import Seal

CONFIG = settings.Queue()
SETTLING = 2 * CONFIG.heartbeat
PRESENCE = Presence("w", VERSION, "fingerprint", 10)


@pytest.fixture
async def clock(redis: Redis) -> Clock:
    return await Clock.at_redis_time(redis)


@pytest.fixture
async def queue(clock: Clock, redis: Redis, seal: Seal) -> WholeLine:
    """A line that nobody has used, with two slots and a clock that stands still."""
    upstream = settings.Upstream(max_concurrency=2)
    queue = WholeLine(redis, seal, CONFIG, upstream, stopped_clock=True)
    await queue.presences.show_front_end("front")
    await queue.offer_main()
    return queue


async def known_length(redis: Redis, ms: int) -> None:
    """Record that answers take as long as that, always."""
    fields = {"n": 50, "mean": ms, "square": ms * ms}
    known = {f"{kind} {name}": n for kind in ("chat", "chat gpt_4_s") for name, n in fields.items()}
    await redis.hset("gateway:service", mapping=known)  # type: ignore[misc]  # redis-py: sync or async


async def wait(queue: WholeLine, id: str) -> float:
    """The wait of a job, as keep-alives say it."""
    [place] = await queue.places([id])
    assert place is not None
    return place.wait


async def test_the_rest_of_the_settling_time_is_in_every_forecast_and_in_the_snapshot(
    queue: WholeLine, redis: Redis, clock: Clock
) -> None:
    assert (await queue.snapshot()).settling == SETTLING, "nobody has called yet"
    await queue.renew(PRESENCE, [])
    assert (await enqueue(queue, "first", "a")).wait == SETTLING
    assert await wait(queue, "first") == SETTLING
    await clock.advance(1.0)
    await queue.renew(PRESENCE, [])
    assert await wait(queue, "first") == SETTLING - 1
    assert (await queue.snapshot()).settling == SETTLING - 1
    assert await queue.claim("w", 1) == []
    await clock.advance(SETTLING - 1)
    assert await wait(queue, "first") == 0
    assert (await queue.snapshot()).settling == 0
    assert [claim.id for claim in await queue.claim("w", 1)] == ["first"]


async def test_slots_that_stay_free_while_the_line_settles_delay_all_jobs_behind_them(
    queue: WholeLine, redis: Redis
) -> None:
    await queue.renew(PRESENCE, [])
    await known_length(redis, 500)
    waits = [(await enqueue(queue, f"job-{n}", f"key-{n}")).wait for n in range(4)]
    assert waits[:2] == [SETTLING, SETTLING]
    assert SETTLING < waits[2] < waits[3] < SETTLING + 2
    assert (await enqueue(queue, "own", "key-0")).wait >= SETTLING + 0.5


async def test_settling_refuses_only_those_who_would_not_wait_for_so_long(
    queue: WholeLine, redis: Redis, clock: Clock
) -> None:
    """Nothing is known of lengths, so nothing but the settling time itself is certain."""
    await queue.renew(PRESENCE, [])
    for n in range(20):  # a guess of minutes, behind others
        assert isinstance(
            await queue.enqueue(new(f"job-{n}", "heavy", max_wait=SETTLING), b"body"), Accepted
        )
    refused = await queue.enqueue(new("hasty", "other", max_wait=SETTLING - 1), b"body")
    assert isinstance(refused, Refused)
    assert refused.reason == "wait_too_long"
    assert refused.retry_after >= 1
    await clock.advance(2.0)
    await queue.renew(PRESENCE, [])
    hasty = await queue.enqueue(new("hasty", "other", max_wait=SETTLING - 2), b"body")
    assert isinstance(hasty, Accepted)


async def test_a_refused_client_returns_after_the_line_has_settled(
    redis: Redis, clock: Clock, seal: Seal
) -> None:
    """No place becomes free before, however short the answers are."""
    config = settings.Queue(max_waiting=1)
    queue = WholeLine(redis, seal, config, settings.Upstream(), stopped_clock=True)
    await queue.presences.show_front_end("front")
    await queue.offer_main()
    await queue.renew(PRESENCE, [])
    await known_length(redis, 10)
    await enqueue(queue, "first", "a")
    for key in ("b", "c"):
        refused = await queue.enqueue(new(key, key), b"body")
        assert isinstance(refused, Refused)
        assert refused.reason == "queue_full"
        assert refused.retry_after > SETTLING


async def test_a_time_without_calls_a_lost_pulse_and_another_redis_let_the_line_settle(
    queue: WholeLine, redis: Redis, clock: Clock
) -> None:
    async def settled() -> None:
        for _ in range(3):
            await queue.renew(PRESENCE, [])
            await clock.advance(SETTLING / 2)
        assert (await queue.snapshot()).settling == 0

    await settled()
    await clock.advance(SETTLING)
    assert (await queue.snapshot()).settling == SETTLING, "it has not been noted, and yet counts"
    await settled()
    await redis.hset("gateway:pulse", "run", "another")  # type: ignore[misc]  # redis-py: sync or async
    assert (await queue.snapshot()).settling == SETTLING
    await settled()
    await redis.delete("gateway:pulse")
    assert (await queue.snapshot()).settling == SETTLING


async def test_a_redis_that_was_noted_as_new_need_not_settle_until_it_is_emptied(
    redis: Redis, redis_server: EmbeddedRedis, seal: Seal
) -> None:
    url = redis_url(redis_server.url)
    queue = WholeLine(redis, seal, settings.Queue())
    await queue.presences.show_front_end("front")
    await queue.offer_main()
    await note_new(url)
    assert (await queue.snapshot()).settling == 0
    await queue.renew(PRESENCE, [])
    assert (await enqueue(queue, "first")).wait == 0
    [first] = await queue.claim("w", 1)

    await redis.flushall()
    assert (await queue.snapshot()).settling == SETTLING
    assert await queue.renew(PRESENCE, [first]) == [("first", "lost")]
    await note_new(url)  # it has had callers, so this changes nothing
    assert 0 < (await queue.snapshot()).settling <= SETTLING
