"""The history in a real Redis: who records a minute, and reading it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.line import WholeLine
from tests.support.clock import Clock
from tests.support.line import LASTING, claim, enqueue, finish
from wire.line import keys
from wire.line.history import MINUTES, History, Minute, Turn, read_history
from wire.redis.client import Redis
from wire.seal import Seal
from wire.upkeep.history import record


async def put(redis: Redis, minutes: Sequence[Minute]) -> None:
    """Write minutes into the ring."""
    fields = {f"minute {m.at // 60 % MINUTES}": msgspec.msgpack.encode(m) for m in minutes}
    await redis.hset(keys.history, mapping=fields)  # type: ignore[misc]  # redis-py: sync or async


async def test_one_process_records_each_minute_and_a_gap_stays_a_gap(
    redis: Redis, seal: Seal
) -> None:
    clock = await Clock.at_redis_time(redis)
    lines = [WholeLine(redis, seal, LASTING, stopped_clock=True) for _ in range(3)]
    histories = [History(line.scripts) for line in lines]

    async def all_try() -> set[float]:
        tries = zip(histories, lines, strict=True)
        return set(await asyncio.gather(*(record(one, line.snapshot) for one, line in tries)))

    (left,) = await all_try()  # the counters of the first minute are not known
    assert 0 < left <= 60
    await clock.advance(left)
    await all_try()
    first = clock.now // 60_000_000
    await clock.advance(180)
    assert await all_try() == {60.0}
    stored = await redis.hgetall(keys.history)  # type: ignore[misc]  # redis-py: sync or async
    minutes = [msgspec.msgpack.decode(v, type=Minute) for f, v in stored.items() if b" " in f]
    assert sorted((m.at, m.seconds) for m in minutes) == [
        (first * 60, 60),
        (first * 60 + 180, 180),
    ]


async def test_a_minute_counts_jobs_and_shows_slots(redis: Redis, queue: WholeLine) -> None:
    history = History(queue.scripts)
    now, _ = await redis.time()
    minute = int(now) // 60
    await history.record(Turn(minute - 1, 0, b""), await queue.snapshot())
    for n in range(3):
        await enqueue(queue, f"job-{n}", f"key-{n}")
    one, *_ = await claim(queue, want=2)
    assert await finish(queue, one)
    (before,) = await redis.hmget(keys.history, ["before"])  # type: ignore[misc]  # redis-py: sync or async
    await history.record(Turn(minute, 0, before or b""), await queue.snapshot())
    found = (await read_history(redis, 60))[-1]
    assert (found.accepted, found.done, found.waiting, found.running) == (3, 1, 1, 1)
    assert found.slots == 100
    assert sum(found.waits) == 2


async def test_the_last_minutes_are_read_in_order_without_older_ones(redis: Redis) -> None:
    now, _ = await redis.time()
    minute = int(now) // 60
    await put(redis, [Minute(at=60 * (minute - n), done=n) for n in (3, 1, 2)])
    await put(redis, [Minute(at=60 * (minute - MINUTES - 5))])  # of the day before
    assert [each.done for each in await read_history(redis, 30)] == [3, 2, 1]
    assert [each.done for each in await read_history(redis)][-3:] == [3, 2, 1]
    await redis.hset(keys.history, f"minute {(minute - 2) % MINUTES}", "of another release")  # type: ignore[misc]  # redis-py: sync or async
    assert [each.done for each in await read_history(redis, 30)] == [3, 1]


async def test_a_whole_day_is_read_at_once_and_takes_less_than_a_megabyte(redis: Redis) -> None:
    now, _ = await redis.time()
    minute = int(now) // 60
    full: dict[str, Any] = {
        "waits": (100,) * 13,
        "first_tokens": (100,) * 12,
        "refusals": {"line_full": 100},
    }
    await put(redis, [Minute(at=60 * (minute - n), done=1000, **full) for n in range(MINUTES)])
    assert len(await read_history(redis)) >= MINUTES - 1
    assert await redis.memory_usage(keys.history) < 1_000_000
