"""The table of keys in docs/redis.md matches Redis: names, types, fields, lifetimes."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from tests.support.line import LASTING, claim, enqueue, new, present, serve, shared
from tests.support.operators import ANNA, actions_on
from tests.support.scripted import HELLO, ScriptedUpstream
from wire import VERSION
from wire.gpts import GptInfos
from wire.items import StoredItems
from wire.jobs import Attachment, ChatJob, encode_job
from wire.keyring import Keyring
from wire.line import keys
from wire.line.admission import Refused
from wire.line.history import History
from wire.line.presence import Presence
from wire.line.usage import Tokens
from wire.redis.client import Redis, connect
from wire.seal import Seal
from wire.upkeep.reconciler import reconcile
from workers.opening import serve_pandora
from workers.pandora.deletions import ConversationRecord, Deletions
from workers.pandora.files.uploaded import Uploaded, UploadedFiles
from workers.worker import Worker

ONE_SLOT = settings.Upstream(max_concurrency=1)
PAGE = settings.HERE / "docs" / "redis.md"
UNITS = {"s": 1, "min": 60, "h": 3600, "day": 86400}


class Row(NamedTuple):
    """One line of the table. `expires` is the lifetime of such a key, in words."""

    key: str
    type: str
    fields: set[str]
    expires: str
    names: re.Pattern[str]


def names(key: str) -> re.Pattern[str]:
    """The names of such keys."""
    return re.compile(re.sub(r"<\w+>", "[^:]+", key.replace("<lane>", "<sort>(:<model>)?")))


def table() -> Iterator[Row]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.match(r"`(gateway|arq):", cells[0]):
            named = set(re.findall(r"`(\w+)`", cells[2]))
            key = cells[0].strip("`")
            yield Row(key, cells[1], named, cells[4], names(key))


ROWS = list(table())


class Seen(NamedTuple):
    """One key at one time; `left` is its time to live in seconds, None without one."""

    key: str
    type: str
    fields: set[str]
    left: float | None


async def look(redis: Redis) -> list[Seen]:
    seen = []
    async for name in redis.scan_iter(count=1000):
        key = name.decode()
        kind = (await redis.type(key)).decode()
        fields = {field.decode() for field in await redis.hkeys(key)} if kind == "hash" else set()  # type: ignore[misc]  # redis-py: sync or async
        left = await redis.pttl(key)
        if left != -2:  # it has just ended
            seen.append(Seen(key, kind, fields, None if left == -1 else left / 1000))
    return seen


@cache
def row_of(key: str) -> Row:
    found = [row for row in ROWS if row.names.fullmatch(key)]
    assert len(found) == 1, f"{key}: {len(found)} rows of the table"
    return found[0]


def check(seen: Seen) -> None:
    row = row_of(seen.key)
    assert seen.type == row.type, seen
    # Fields with spaces and braces are made of words; the others have names.
    assert {field for field in seen.fields if re.fullmatch(r"\w+", field)} <= row.fields, seen
    if seen.left is None:
        assert row.expires == "no" or row.expires.startswith("no,"), seen
    else:
        assert row.expires != "no", seen
        times = re.findall(r"(\d+) (s|min|h|day)\b", row.expires)
        if times and "`" not in row.expires:
            assert seen.left <= max(int(n) * UNITS[unit] for n, unit in times) + 60, seen


async def scenes(
    redis: Redis, server: EmbeddedRedis, queue: WholeLine, seal: Seal, upstream: ScriptedUpstream
) -> list[Seen]:
    """Run everything that the line can do, once; return the keys in Redis after each step."""
    seen: list[Seen] = []

    async def step() -> None:
        seen.extend(await look(redis))

    # One runs, one has a seat, one waits in line, one is named by its client.
    await enqueue(queue, "runs", book="0123456789abcdef", model="gpt-4", units=14.0)
    [runs] = await claim(queue)
    await enqueue(queue, "in-line")
    await enqueue(queue, "has-a-seat", key="other")
    await enqueue(queue, "named", key="named", idem="named", digest="d")
    await step()
    assert await queue.begin(runs, b"entry", {"front": b"frame"})
    await queue.stop_logging(runs)
    await queue.detach("runs", "front", enough=True)
    await queue.renew(Presence("w", VERSION, "fingerprint", 100), [runs], {"runs": 1})
    await step()
    assert await queue.finish(runs.id, runs.attempt, "done", b"entry", {}, tokens=Tokens(1, 2))
    for claimed in await claim(queue):
        if claimed.id == "named":
            await queue.detach("named", "front")  # its grace begins
            await step()
            await queue.finish(claimed.id, claimed.attempt, "done", b"entry", {})
        else:
            await queue.finish(claimed.id, claimed.attempt, "failed", b"entry", {})
    await step()

    # Accounts that are busy, at their limit, or used up; an upstream that fails.
    for name in ("a", "b"):
        await enqueue(queue, f"pool-{name}", key="pool", own_slots=2)
    first, second = await claim(queue)
    assert await queue.cool_down(first, 5, 60) == "requeued"
    await step()
    assert await queue.park(second, 30) == "requeued"
    await enqueue(queue, "busy", key="busy")
    [busy] = await claim(queue)
    assert await queue.cool_down(busy, 5, 60) == "requeued"
    await enqueue(queue, "fails", key="fails")
    [fails] = await claim(queue)
    assert await queue.retry(fails, 0.2, 10, 5) == "requeued"
    await step()

    # More jobs than may wait; a reader that detaches; an open circuit.
    strict = settings.Queue(
        lease=LASTING.lease, heartbeat=LASTING.heartbeat, max_waiting=1, max_waiting_per_key=1
    )
    narrow = WholeLine(
        redis, seal, strict, settings.Upstream(max_concurrency=1, circuit_failures=1)
    )
    await narrow.offer_main()
    await redis.hset("gateway:key:pool", "answered", "1")  # type: ignore[misc]  # redis-py: sync or async
    refused = await narrow.enqueue(new("refused", key="pool"), b"body")
    assert isinstance(refused, Refused)
    await step()
    async with asyncio.timeout(30):
        while not (again := await claim(narrow)):
            await asyncio.sleep(0.02)  # until its pause is over
    [fails] = again
    await enqueue(queue, "tries", key="tries")
    await narrow.finish(fails.id, fails.attempt, "failed", b"entry", {}, upstream_failed=True)
    await step()
    await redis.hset("gateway:breaker:main", "until", "1")  # type: ignore[misc]  # redis-py: sync or async
    [tries] = await claim(queue)
    await step()
    assert await queue.begin(tries, b"entry", {})
    await queue.finish(tries.id, tries.attempt, "done", b"entry", {})
    for name in ("pool-a", "pool-b", "busy"):
        await queue.cancel(name)

    # Keys of the reconciler.
    await redis.zadd("gateway:leases:main:chat", {"nobody": 1.0})
    assert await reconcile(queue, 30)
    await step()

    # A client that retries at its retry time, its key further ahead than a job may wait.
    known = [f"{kind} {field}" for kind in ("chat", "chat gpt_4_s") for field in ("n", "mean")]
    await redis.hset("gateway:service", mapping=dict.fromkeys(known, "1000"))  # type: ignore[misc]  # redis-py: sync or async
    ahead = {"chat paid": "1e9", "answered": "1"}
    await redis.hset("gateway:key:ahead", mapping=ahead)  # type: ignore[misc]  # redis-py: sync or async
    await redis.zadd("gateway:promised:ahead", {"ahead": 1000 * time.time()})
    await enqueue(queue, "before")
    one_slot = WholeLine(redis, seal, settings.Queue(), ONE_SLOT)
    await one_slot.offer_main()
    await enqueue(one_slot, "ahead", key="ahead")
    await step()
    await queue.offer_main()
    for name in ("before", "ahead"):
        await queue.cancel(name)

    # Both lanes have jobs to claim, and take turns.
    await enqueue(queue, "chat", key="chats")
    await enqueue(queue, "image", key="images", lane="images")
    [first] = await claim(queue, 1)
    await redis.hincrby(f"gateway:job:{first.id}", "claimed", -1000)  # type: ignore[misc]  # redis-py: sync or async
    await queue.finish(first.id, first.attempt, "done", b"entry", {})
    for name in ("chat", "image"):
        await queue.cancel(name)

    # A stranger and a key that has had an answer wait; the upstream refuses the stranger's key.
    for name in ("tries", "made-up"):
        await enqueue(queue, f"of-{name}", key=name)
    await step()
    first, second = await claim(queue, 1) + await claim(queue, 1)
    await queue.refuse(first)
    for each in (first, second):
        await queue.finish(each.id, each.attempt, "failed", b"entry", {})
    await step()

    # Two upstreams with accounts that keys share, one of which fails.
    both = [shared("gpu", "chat:a", "chat:b"), shared("box", "chat:a", "chat:b")]
    await serve(queue, *both)
    for lane in ("chat:a", "chat:b"):
        await enqueue(queue, lane[-1], "of-models", lane=lane, own_slots=0, slots=2)
    await step()
    (first,) = await queue.claim("w", 10, ["gpu"])
    await step()
    assert await queue.retry(first, 0.01, 0.01, 5) == "requeued"
    (other,) = await queue.claim("w", 10, ["box"])
    assert await queue.set_aside(other, "deactivated", "") == "requeued"
    await step()

    # A real worker, with arq's own keys; images.
    connection = connect(redis_url(server.url))
    config = settings.Settings(queue=LASTING)
    served = [serve_pandora("main", config, upstream)]
    worker = Worker("real", connection, seal, served, config)
    main = asyncio.create_task(worker.main())
    seen_running = asyncio.Event()
    upstream.script = (HELLO[:1], seen_running, HELLO[1:])
    id = f"img-{secrets.token_hex(4)}"
    job = ChatJob(VERSION, id, "gpt_4_s", "bearer", [])
    await queue.enqueue(new(id, lane="images"), seal.seal(encode_job(job), f"job {id}"))
    async with asyncio.timeout(30):
        while upstream.active == 0:
            await present(queue)
            await asyncio.sleep(0.02)
        await step()
        seen_running.set()
        worker.drain()
        await main
    await connection.aclose()

    # Keys outside the line.
    async def never(bearer: str, conversation_id: str) -> bool:
        return False

    deletions = Deletions(redis, seal, never, LASTING)
    await ConversationRecord(deletions, "bearer").note("conversation")
    gpts = GptInfos(redis, seal, refresh=3600.0)
    await gpts.put("bearer", "g-1", b"info")
    await gpts.miss("bearer", "g-2")
    await UploadedFiles(redis, seal, ttl=60.0).put("bearer", FILE, Uploaded("file-1", "a", "", 1))
    await StoredItems(redis, seal, settings.Responses()).put("bearer", {"msg_1": b"item"})
    actions = actions_on(queue, seal)
    await actions.pause(ANNA, "all", seconds=60)
    assert (await actions.resume(ANNA, "all")).result == "resumed"
    await actions.pause(ANNA, "upstream", "main", 60)
    assert (await actions.wake(ANNA, "key")).result == "already"
    await step()
    await actions.resume(ANNA, "upstream", "main")
    await redis.set(keys.draining("steady"), "", px=60_000)
    _, issued = await Keyring(redis, seal).new("bot", {"requests_per_minute": 1})
    await enqueue(queue, "limited", key="limited", issued=issued.id)
    await Keyring(redis, seal).revoke(issued.id)
    history = History(queue.scripts)
    await history.record(await history.take_turn(), await queue.snapshot())
    await step()
    return seen


FILE = Attachment(name="a.txt", type="text/plain", size=1, sha256="0", content=b"a")


async def test_the_table_of_keys_in_the_design_matches_redis(
    redis: Redis,
    redis_server: EmbeddedRedis,
    queue: WholeLine,
    seal: Seal,
    upstream: ScriptedUpstream,
) -> None:
    seen = await scenes(redis, redis_server, queue, seal, upstream)
    for each in seen:
        check(each)
    missing = {row.key for row in ROWS} - {row_of(each.key).key for each in seen}
    assert not missing, "in the table, but never seen"
    for row in ROWS:
        had = {name for each in seen if row_of(each.key) == row for name in each.fields}
        assert row.type != "hash" or row.fields <= had, f"{row.key}: in the table, but never seen"
