"""The waiting line as its front ends and workers use it, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from wire import VERSION
from wire.jobs import ChatJob, encode_job, fingerprint
from wire.line.admission import Accepted, NewJob
from wire.line.claims import Claim, StalledJob
from wire.line.offers import Offer
from wire.line.presence import Presence
from wire.redis.client import Redis
from wire.seal import Seal

QUICK = settings.Queue(lease=1.2, heartbeat=0.2, max_waiting_per_key=1000)
"""Leases that expire soon, for tests that wait for it."""

LASTING = replace(QUICK, lease=60.0, heartbeat=2.0)
"""Leases that no worker loses, however busy this machine is. Nor is its pause a disturbance, after
which the line would settle."""

SOON = settings.Queue(lease=0.36, heartbeat=0.1)
"""Conversations to delete count as over after half a second, for tests without a worker."""

ENTRY = b"entry"
FRAMES = {"front": b"frame"}


def new(id: str, key: str = "key", front: str = "front", **more: Any) -> NewJob:
    return NewJob(id=id, key=key, front_end=front, **more)


async def enqueue(queue: WholeLine, id: str, key: str = "key", **more: Any) -> Accepted:
    admission = await queue.enqueue(new(id, key, **more), b"body")
    assert isinstance(admission, Accepted), admission
    return admission


async def claim(queue: WholeLine, want: int = 10, worker: str = "w") -> list[Claim]:
    """Claim as a worker does: again and again, until there is something or the line has settled."""
    async with asyncio.timeout(60):  # a clock that was stopped while the line settles
        while True:
            await present(queue)
            claims = await queue.claim(worker, want)
            at, since = await queue.redis.hmget("gateway:pulse", ["at", "since"])  # type: ignore[misc]  # redis-py: sync or async
            if claims or int(at) - int(since) >= queue.settling:
                return claims
            await asyncio.sleep(0.02)


async def finish(queue: WholeLine, claim: Claim) -> bool:
    return await queue.finish(claim.id, claim.attempt, "done", ENTRY, FRAMES)


async def field(redis: Redis, key: str, name: str) -> bytes | None:
    """One field of a hash."""
    (value,) = await redis.hmget(key, [name])  # type: ignore[misc]  # redis-py: sync or async
    return value  # type: ignore[no-any-return]


async def present(queue: WholeLine, *held: Claim, worker: str = "w") -> list[str]:
    """One heartbeat of the front end and of a worker; the verdicts on `held`."""
    await queue.presences.show_front_end("front")
    await queue.offer_main()
    presence = Presence(worker, VERSION, "fingerprint", 100)
    return [word for _, word in await queue.renew(presence, held)]


async def lapse(queue: WholeLine, *held: Claim) -> tuple[int, list[StalledJob]]:
    """Renew the held claims until another lease has expired; return what was done about it."""
    async with asyncio.timeout(30):
        while (done := await queue.reap()) == (0, []):
            assert await present(queue, *held) == []
            await asyncio.sleep(0.05)
    return done


async def now(redis: Redis) -> int:
    """Redis' own time, in milliseconds."""
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)


def ids(claims: list[Claim]) -> list[str]:
    return [c.id for c in claims]


async def has_worker(
    redis: Redis,
    seal: Seal,
    upstream: settings.Upstream | None = None,
    *,
    stopped_clock: bool = False,
) -> None:
    """Register a worker that stays alive for long, so that jobs are accepted and claimed.

    In an empty Redis, nothing is claimed for two heartbeats.
    """
    config = settings.Queue(lease=60, heartbeat=20)
    # Under the clock of the test: else the time between the two may look like a disturbance.
    steady = WholeLine(redis, seal, config, upstream, stopped_clock=stopped_clock)
    await steady.offer_main()
    await steady.renew(Presence("steady", VERSION, seal.fingerprint, 100), [])
    await redis.hincrby("gateway:pulse", "since", -3_600_000)  # type: ignore[misc]  # redis-py: sync or async


async def enqueue_chat(queue: WholeLine, seal: Seal, id: str) -> None:
    """Enqueue a job that a worker can read."""
    job = ChatJob(VERSION, id, "gpt_4_s", "bearer", [], key=fingerprint("bearer"))
    body = seal.seal(encode_job(job), f"job {id}")
    assert isinstance(await queue.enqueue(new(id, units=14.0), body), Accepted)


async def serve(queue: WholeLine, *offers: Offer, slots: int = 100, worker: str = "w") -> None:
    """One heartbeat of a front end and of a worker with these upstreams."""
    await queue.presences.show_front_end("front")
    for offer in offers:
        await queue.offer(offer)
    names = tuple(offer.upstream for offer in offers)
    await queue.renew(Presence(worker, VERSION, "fingerprint", slots, names), [])


def shared(
    upstream: str, *lanes: str, slots: int = 2, accounts: Sequence[str] = (), **more: Any
) -> Offer:
    """An upstream whose accounts, with that many slots each, all keys share."""
    names = accounts or [upstream]
    return Offer(
        upstream=upstream,
        max_concurrency=more.pop("max_concurrency", 0),
        accounts=dict.fromkeys(names, slots),
        lanes=list(lanes),
        about=b"about",
        **more,
    )
