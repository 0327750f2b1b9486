"""A line whose jobs run on accounts that all keys share, under a stopped clock."""

from __future__ import annotations

from typing import Any

import settings
from benchmarks.line import WholeLine
from tests.support.line import ENTRY, new
from wire import VERSION
from wire.line.admission import Accepted
from wire.line.claims import Claim
from wire.line.presence import Presence
from wire.redis.client import Redis
from wire.seal import Seal

CALM = settings.Queue(lease=1e5, heartbeat=1e4, max_waiting=10_000, max_waiting_per_key=1000)
"""No time that passes in a test is a disturbance."""
START = 1_700_000_000.0


async def calm_line(redis: Redis, seal: Seal) -> WholeLine:
    """A line without upstreams, undisturbed, whose clock stands still."""
    line = WholeLine(redis, seal, CALM, stopped_clock=True)
    await line.set_clock(START)
    await line.renew(Presence("w", VERSION, "fingerprint", 100), [])
    await redis.hincrby("gateway:pulse", "since", -1_000_000_000)  # type: ignore[misc]  # redis-py: sync or async
    return line


async def enqueue(queue: WholeLine, id: str, key: str, lane: str, **more: Any) -> Accepted:
    job = new(id, key, lane=lane, own_slots=0, **more)
    admission = await queue.enqueue(job, b"body")
    assert isinstance(admission, Accepted), admission
    return admission


async def fill(queue: WholeLine, lane: str, *keys: str, count: int = 40) -> None:
    for n in range(count):
        for key in keys:
            await enqueue(queue, f"{key}-{lane}-{n}", key, lane)


async def take(queue: WholeLine, *upstreams: str, limit: int = 100) -> list[Claim]:
    return await queue.claim("w", limit, upstreams)


async def finish(queue: WholeLine, *claims: Claim) -> None:
    for claim in claims:
        await queue.begin(claim, ENTRY, {})
        assert await queue.finish(claim.id, claim.attempt, "done", ENTRY, {})


class Clock:
    """The stopped clock of a line."""

    def __init__(self, queue: WholeLine) -> None:
        self.queue = queue
        self.now = START

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        await self.queue.set_clock(self.now)
