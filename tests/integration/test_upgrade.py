"""Data that older releases wrote, with jobs waiting and running, in the line of this release.

`line_of_436ec32.json` was recorded from that release, which notes no version, and
`line_of_version_2.json` from ce4c429: all keys except metrics and the records of the finished job.
In the former two keys run a job of the chat lane, in the latter three; one runs an image. In the
latter one account cools down, one may not use a family, and one may hold fewer conversations.
`line_of_version_3.json` is from 1243366: two keys run a job each, and two jobs of each wait.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from runtime.tasks import find_error
from settings.redis_url import redis_url
from tests.support.line import ENTRY, LASTING, claim, enqueue, field, finish, has_worker, now
from tests.support.scripted import HELLO, ScriptedUpstream
from wire import VERSION
from wire.jobs import decode_job
from wire.line.scripts import Scripts, WrongVersionError, upgrade
from wire.line.usage import Tokens
from wire.redis.client import Redis, connect
from wire.seal import Seal
from wire.upkeep.reconciler import reconcile
from workers.opening import serve_pandora
from workers.worker import Worker


def recorded(name: str) -> list[Any]:
    """Kind, name and value of each key."""
    return json.loads(Path(__file__).with_name(name).read_text())  # type: ignore[no-any-return]


def jobs_in(recorded: list[Any]) -> dict[str, Any]:
    return {
        name.removeprefix("gateway:job:"): value
        for _, name, value in recorded
        if name.startswith("gateway:job:")
    }


RECORDED = recorded("line_of_436ec32.json")
RECORDED_AT = 1795844579000
JOBS = jobs_in(RECORDED)
OF_VERSION_2 = recorded("line_of_version_2.json")
OF_VERSION_3 = recorded("line_of_version_3.json")
WAITING = {id: job for id, job in JOBS.items() if job["state"] == "waiting"}


def in_order(key: str) -> list[str]:
    """The waiting jobs of a key in their old order, that in the queue first."""
    [queued] = [v for _, name, v in RECORDED if name == f"gateway:queued:{key}"] or [[]]
    tags = {id: float(job["line_tag"]) for id, job in WAITING.items() if job["account"] == key}
    return sorted(tags, key=lambda id: (id not in queued, tags[id], id))


def shifted(value: Any, by: int) -> Any:
    """A recorded value with its times moved `by` ms, so that nothing has expired."""
    match value:
        case dict():
            return {name: shifted(each, by) for name, each in value.items()}
        case float() if abs(value - RECORDED_AT) < 1e9:
            return value + by
        case str() if value.isdigit() and abs(int(value) - RECORDED_AT) < 1e9:
            return str(int(value) + by)
    return value


async def write_recorded(redis: Redis, recorded: list[Any] = RECORDED) -> None:
    by = await now(redis) - max(
        int(value["at"]) for _, name, value in recorded if name == "gateway:pulse"
    )
    for kind, name, former in recorded:
        value = shifted(former, by)
        match kind:
            case "hash":
                fields = {field: each.encode("latin-1") for field, each in value.items()}
                await redis.hset(name, mapping=fields)  # type: ignore[misc]  # redis-py: sync or async
            case "zset":
                await redis.zadd(name, value)
            case "set":
                await redis.sadd(name, *value)  # type: ignore[misc]  # redis-py: sync or async
            case _:
                await redis.set(name, value.encode("latin-1"))


async def dump(redis: Redis) -> dict[bytes, bytes | None]:
    return {name: await redis.dump(name) async for name in redis.scan_iter()}


async def test_every_job_of_the_old_release_comes_in_its_old_order(
    redis: Redis, seal: Seal
) -> None:
    await write_recorded(redis)
    slots = settings.Upstream(max_concurrency=4)  # the old worker holds three
    queue = WholeLine(redis, seal, LASTING, slots)
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, slots)

    # Users that come now go after those that wait, but not after a user's second job.
    await enqueue(queue, "new-0", "a", user="new", own_slots=2)
    await enqueue(queue, "new-1", "e", user="new")
    came: list[str] = []
    while claims := await claim(queue, 1):
        came += [each.id for each in claims]
        assert await queue.begin(claims[0], ENTRY, {})
        await finish(queue, claims[0])
        if len(came) == 1:  # jobs of the key that runs at its cap can come from now on
            attempt = await field(redis, "gateway:job:flex-0", "attempt")
            assert attempt is not None
            await queue.finish("flex-0", int(attempt), "done", ENTRY, {})
    assert sorted(came) == sorted([*WAITING, "new-0", "new-1"])
    for key in "abcd":
        expected = in_order(key)
        assert [id for id in came if id in expected] == expected
    assert came.index("new-0") < came.index("heavy-2")

    # The old worker is gone: its leases expire, and its jobs come again.
    for lane in ("chat", "images"):
        for id in await redis.zrange(f"gateway:leases:main:{lane}", 0, -1):
            await redis.zadd(f"gateway:leases:main:{lane}", {id: 1.0})
    await redis.hincrby("gateway:pulse", "since", -3_600_000)  # type: ignore[misc]  # redis-py: sync or async
    assert await queue.reap() == (2, [])
    while claims := await claim(queue):
        for each in claims:
            came.append(each.id)
            await finish(queue, each)
    assert {*came} == {*JOBS, "new-0", "new-1"} - {"flex-0"}


async def test_old_keys_and_fields_go_and_seats_are_counted(redis: Redis, seal: Seal) -> None:
    await write_recorded(redis)
    await Scripts(redis, seal.fingerprint).upgrade()
    names = [name.decode() for name in await dump(redis)]
    assert not [name for name in names if ":work:" in name or ":shares:" in name]
    for id, old in JOBS.items():
        fields = await redis.hgetall(f"gateway:job:{id}")  # type: ignore[misc]  # redis-py: sync or async
        assert {*old} - {field.decode() for field in fields} == {"cost", "alone", "guessed"} & {
            *old
        }
    answered = {
        name.removeprefix("gateway:account:")
        for _, name, value in RECORDED
        if name.startswith("gateway:account:") and any(field.endswith(" n") for field in value)
    }
    for key in "abcde":
        known = await field(redis, f"gateway:key:{key}", "answered")
        assert (known == b"1") == (key in answered)
    kinds = ("regulars", "strangers")
    sorted_ = [await redis.zcard(f"gateway:{kind}:chat:{seal.fingerprint}") for kind in kinds]
    assert sum(sorted_) == await redis.zcard(f"arq:queue:chat:{seal.fingerprint}")
    assert await redis.hgetall("gateway:held:a") == {b"chat gpt_4_s": b"2"}  # type: ignore[misc]  # redis-py: sync or async
    assert await redis.hgetall("gateway:held:c") == {b"images gpt_4_s": b"1"}  # type: ignore[misc]  # redis-py: sync or async
    # Tags are jobs, not ms: no user is further ahead than its own jobs.
    assert max(s for _, s in await redis.zrange("gateway:users:a", 0, -1, withscores=True)) < 8
    assert await redis.zscore(f"arq:queue:chat:{seal.fingerprint}", "light-0") == 11.0


async def test_no_job_of_version_2_is_lost_and_its_caps_and_pauses_hold(
    redis: Redis, seal: Seal
) -> None:
    await write_recorded(redis, OF_VERSION_2)
    slots = settings.Upstream(max_concurrency=20)
    queue = WholeLine(redis, seal, LASTING, slots)
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, slots)
    assert await reconcile(queue, 60) == 0, "nothing is to be repaired"
    left = jobs_in(OF_VERSION_2)
    running = [id for id, job in left.items() if job["state"] == "running"]

    claims = {each.id: each for each in await claim(queue, 20)}
    assert {*claims} == {"light-0", "late-0"}, "of a, one runs; p may hold one; f and g rest"
    assert (await queue.snapshot()).accounts == {"resting": 1, "parked": 1, "limited": 1}
    for id in running:
        attempt = int(await field(redis, f"gateway:job:{id}", "attempt") or 0)
        assert await queue.finish(id, attempt, "done", ENTRY, {})
        del left[id]
    for waits in ("account f", "family g gpt_4_s"):
        await redis.zadd("gateway:later", {waits: 1})
    came: list[str] = []
    while claims or (claims := {each.id: each for each in await claim(queue, 20)}):
        for id, each in claims.items():
            came.append(id)
            await queue.begin(each, ENTRY, {})
            await finish(queue, each)
            del left[id]
        claims = {}
    assert not left
    heavy = [f"heavy-{n}" for n in range(1, 4)]
    pool = [f"pool-{n}" for n in range(1, 4)]
    for expected in (heavy, ["light-0", "light-1"], pool, ["late-0", "late-1"]):
        assert [id for id in came if id in expected] == expected
    assert await redis.get("gateway:bytes") == b"0"
    old = ["gateway:leases:chat", "gateway:leases:images", "gateway:breaker"]
    assert await redis.exists(*old) == 0


async def test_jobs_of_version_3_run_and_are_not_counted_as_usage(redis: Redis, seal: Seal) -> None:
    await write_recorded(redis, OF_VERSION_3)
    queue = WholeLine(redis, seal, LASTING, settings.Upstream(max_concurrency=3))
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, settings.Upstream(max_concurrency=3))
    assert await redis.get("gateway:version") == str(VERSION).encode()
    assert await reconcile(queue, 60) == 0, "nothing is to be repaired"
    left = jobs_in(OF_VERSION_3)
    for id in ("a-0", "b-0"):
        attempt = int(await field(redis, f"gateway:job:{id}", "attempt") or 0)
        del left[id]
        assert await queue.finish(id, attempt, "done", ENTRY, {}, tokens=Tokens(1, 1))
    came = []
    while left:
        for each in await claim(queue):
            job = decode_job(seal.open(each.body, f"job {each.id}"))
            assert job.version == 3
            came.append(job.id)
            await finish(queue, each)
            del left[each.id]
    assert [id for id in came if id.startswith("a")] == ["a-1", "a-2"]
    assert [id for id in came if id.startswith("b")] == ["b-1", "b-2"]
    assert await redis.keys("gateway:usage:*") == []


async def test_an_upgrade_happens_once_and_an_empty_redis_only_gets_the_version(
    redis: Redis, seal: Seal
) -> None:
    await Scripts(redis, seal.fingerprint).upgrade()
    assert await redis.keys() == [b"gateway:version"]
    await redis.flushall()

    await write_recorded(redis)
    await Scripts(redis, seal.fingerprint).upgrade()
    after = await dump(redis)
    await Scripts(redis, seal.fingerprint).upgrade()
    assert await dump(redis) == after
    await redis.delete("gateway:version")  # lost: the data are converted again, to the same
    await Scripts(redis, seal.fingerprint).upgrade()
    assert await redis.zrange("gateway:line:a:chat:gpt_4_s", 0, -1) == [
        id.encode() for id in in_order("a")[1:]
    ]


async def test_a_worker_runs_the_jobs_that_an_old_front_end_enqueued(
    redis: Redis, redis_server: EmbeddedRedis, seal: Seal, upstream: ScriptedUpstream
) -> None:
    await write_recorded(redis)
    await redis.set("gateway:front:front", "")
    await has_worker(redis, seal)
    upstream.script = (HELLO,)
    client = connect(redis_url(redis_server.url))
    slots = settings.Upstream(max_concurrency=10)
    config = settings.Settings(queue=LASTING, upstream=slots)
    worker = Worker("new", client, seal, [serve_pandora("main", config, upstream)], config)
    main = asyncio.create_task(worker.main())
    # Jobs of b wait for the one that the old worker holds.
    to_run = [id for id, job in WAITING.items() if job["account"] != "b"]
    async with asyncio.timeout(30):
        for id in to_run:
            while await field(redis, f"gateway:job:{id}", "state") != b"done":
                await asyncio.sleep(0.02)
    worker.drain()
    await main
    await client.aclose()


async def test_a_role_refuses_data_of_another_version_and_says_why(
    redis: Redis, redis_server: EmbeddedRedis, seal: Seal
) -> None:
    await redis.set("gateway:version", VERSION + 1)
    url = redis_url(redis_server.url)
    with pytest.raises(WrongVersionError) as refused:
        await upgrade(url, seal.fingerprint)
    assert f"version {VERSION + 1}" in str(refused.value)
    assert f"version {VERSION}." in str(refused.value)
    with pytest.raises(WrongVersionError):
        await Scripts(redis, seal.fingerprint).run("snapshot")
    await redis.delete("gateway:version")
    await upgrade(url, seal.fingerprint)


async def test_a_running_role_notes_the_version_again_and_ends_when_it_is_another_one(
    queue: WholeLine, redis: Redis, upstream: ScriptedUpstream, seal: Seal
) -> None:
    config = settings.Settings(queue=replace(LASTING, heartbeat=0.05))
    worker = Worker("w", redis, seal, [serve_pandora("main", config, upstream)], config)
    main = asyncio.create_task(worker.main())
    async with asyncio.timeout(30):
        for _ in range(2):
            while await redis.get("gateway:version") != str(VERSION).encode():
                await asyncio.sleep(0.01)
            await redis.flushall()
        await redis.set("gateway:version", VERSION + 1)
        with pytest.raises(ExceptionGroup) as ended:
            await main
    assert isinstance(find_error(ended.value, WrongVersionError), WrongVersionError)
    assert find_error(ended.value, KeyError) is None


async def test_a_role_starts_while_redis_is_unreachable(seal: Seal) -> None:
    await upgrade(redis_url("redis://127.0.0.1:1/0"), seal.fingerprint)
