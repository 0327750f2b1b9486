"""Damage that a Redis leaves which lost part of its writes, and its repair."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.line import WholeLine
from tests.support.line import claim, enqueue
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.upkeep import reconciler
from wire.upkeep.reconciler import reconcile


async def look(queue: WholeLine, redis: Redis) -> int:
    await redis.delete("gateway:reconciler")
    return await reconcile(queue, 1)


async def scene(queue: WholeLine) -> list[Claim]:
    """Start two jobs, which are returned; others wait in the queue, in lines and for a retry
    time."""
    for n in range(3):
        await enqueue(queue, f"a-{n}", key="a")
    await enqueue(queue, "b-0", key="b", lane="images")
    await enqueue(queue, "d-0", key="d")
    claims = {claimed.id: claimed for claimed in await claim(queue, want=3)}
    assert await queue.retry(claims.pop("d-0"), 0.3, 1, 5) == "requeued"
    await enqueue(queue, "c-0", key="c")
    return list(claims.values())


async def test_a_healthy_line_is_not_changed(queue: WholeLine, redis: Redis) -> None:
    await scene(queue)
    assert await look(queue, redis) == 0
    assert await queue.repairs() == 0


@pytest.mark.parametrize(
    "damage",
    [
        ("ZADD", "gateway:leases:main:chat", 1, "nobody"),
        ("ZREM", "gateway:leases:main:chat", "a-0"),
        ("ZADD", "gateway:running:a", 1, "nobody"),
        ("SADD", "gateway:queued:c", "nobody"),
        ("DEL", "gateway:running:a"),
        ("DEL", "gateway:queued:c"),
        ("ZADD", "gateway:waiting:chat", 1, "nobody"),
        ("DEL", "gateway:line:a:chat:gpt_4_s"),
        ("DEL", "gateway:later"),
        ("DEL", "gateway:backlog:chat"),
        ("ZINCRBY", "gateway:backlog:chat", 3, "a"),
        ("DEL", "arq:queue:chat:347705b9"),
        ("DEL", "gateway:strangers:chat:347705b9"),
        ("DEL", "gateway:job:a-1"),
        ("INCRBY", "gateway:bytes", 1000),
    ],
    ids=lambda damage: " ".join(map(str, damage)),
)
async def test_damage_is_repaired_counted_and_logged(
    queue: WholeLine, redis: Redis, damage: tuple[str | int, ...]
) -> None:
    running = await scene(queue)
    await redis.execute_command(*damage)
    assert await look(queue, redis) > 0
    assert await queue.repairs() > 0
    assert await look(queue, redis) == 0, "once is enough"
    others = await claim(queue)
    assert "a" not in {claimed.key for claimed in others}, "it holds what it may"
    running += others
    left = {"a-0", "a-1", "a-2", "b-0", "c-0", "d-0"}
    if damage == ("DEL", "gateway:job:a-1"):
        left.remove("a-1")
    async with asyncio.timeout(30):
        while left:
            for claimed in running:
                assert await queue.finish(claimed.id, claimed.attempt, "done", b"entry", {})
                left.remove(claimed.id)
            running = await claim(queue)


async def test_no_call_reads_more_than_a_part_of_a_long_line(
    queue: WholeLine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does nothing else meanwhile; all waiting jobs used to be read in each call."""
    for n in range(900):
        await enqueue(queue, f"job-{n}", key=f"key-{n % 300}")
    for n in range(0, 300, 10):
        await redis.delete(f"gateway:line:key-{n}:chat:gpt_4_s")
    await redis.incrby("gateway:bytes", 1000)
    reads: dict[str, list[int]] = {}
    run = queue._run

    async def counted(name: str, *args: str | bytes | int | float) -> object:
        await redis.config_resetstat()
        reply = await run(name, *args)
        calls = await redis.info("commandstats")
        number = sum(calls.get(f"cmdstat_{read}", {"calls": 0})["calls"] for read in READS)
        reads.setdefault(name, []).append(number)
        return reply

    monkeypatch.setattr(queue, "_run", counted)
    monkeypatch.setattr(reconciler, "PLACES", 50)
    monkeypatch.setattr(reconciler, "KEYS", 20)
    monkeypatch.setattr(reconciler, "COUNTED", 899)
    assert await look(queue, redis) == 60, "two jobs in each line"
    assert await queue.repairs() == 60
    assert len(reads["reconcile_seats"]) == 15
    assert len(reads["reconcile_places"]) >= 900 / 50
    assert max(reads["reconcile_seats"] + reads["reconcile_places"]) <= 200
    assert reads["reconcile_counts"] == [0], "these are compared in a shorter line"

    await queue.cancel("job-0")
    assert await look(queue, redis) == 1
    assert await look(queue, redis) == 0


READS = ("hget", "hmget", "hgetall")


async def test_only_one_of_many_processes_reconciles(queue: WholeLine, redis: Redis) -> None:
    await redis.zadd("gateway:leases:main:chat", {"nobody": 1, "no one": 1})
    looks = await asyncio.gather(*(reconcile(queue, 60) for _ in range(5)))
    assert sorted(looks) == [0, 0, 0, 0, 2]


async def test_an_account_whose_cool_down_was_lost_is_served_again(
    queue: WholeLine, redis: Redis
) -> None:
    """Its free seat was not given to its waiting jobs until another of its jobs arrived or
    finished."""
    await enqueue(queue, "first", key="a")
    (first,) = await claim(queue)
    assert await queue.cool_down(first, 60, 60) == "requeued"
    await redis.delete("gateway:later")
    assert await claim(queue) == []
    await look(queue, redis)
    assert [claimed.id for claimed in await claim(queue)] == ["first"]


async def test_a_finished_job_is_neither_claimed_nor_finished_again(
    queue: WholeLine, redis: Redis
) -> None:
    """Such a claim has no request in it: no worker could read the script's reply."""
    await enqueue(queue, "job", key="a")
    await queue.cancel("job")
    await redis.zadd(queue.queue_key("chat"), {"job": 1})
    await redis.sadd("gateway:queued:a", "job")  # type: ignore[misc]  # redis-py: sync or async
    assert await queue.waiting_jobs("a") == []
    assert await claim(queue) == []
