"""How many jobs, leases, accounts and workers there are at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import get_args

import msgspec
from arq.connections import ArqRedis

from wire.jobs import Lane
from wire.queue import Queue
from wire.seal import Seal

_SCRIPT = Path(__file__).parent / "scripts" / "census.lua"

_STEP = 1000
"""Jobs that Redis is asked about in one call, so that nobody else waits long."""


class LaneCensus(msgspec.Struct, frozen=True):
    """One lane's jobs by their state, and the leases of its running ones."""

    waiting: int = 0
    running: int = 0
    leases: int = 0


class Census(msgspec.Struct, frozen=True):
    """The line at one moment. `accounts` counts those that may not be used, by the reason."""

    lanes: dict[str, LaneCensus]
    accounts: dict[str, int]
    workers: int


TakeCensus = Callable[[], Awaitable[Census]]
"""Takes a census of the whole gateway. Raises redis.RedisError while Redis is away."""


def census_of(redis: ArqRedis, queue: Queue, seal: Seal) -> TakeCensus:
    """A census that looks at every job's record; what changes meanwhile may be missed."""
    script = redis.register_script(_SCRIPT.read_text())

    async def numbers(ids: Sequence[str]) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for start in range(0, len(ids), _STEP):
            for name, state, number in await script(args=ids[start : start + _STEP]):
                found[name.decode(), state.decode()] += number
        return found

    async def take() -> Census:
        keys = [key async for key in redis.scan_iter(match="gateway:job:*", count=_STEP)]
        # SCAN may name a key twice.
        jobs = await numbers([key.decode().rpartition(":")[2] for key in set(keys)])
        leases = await numbers([id.decode() for id in await redis.zrange("gateway:leases", 0, -1)])
        seconds, microseconds = await redis.time()
        now = seconds * 1000 + microseconds // 1000
        resting = await redis.zcount("gateway:resting", f"({now}", "+inf")
        workers = [w for w in await queue.workers() if w.fingerprint == seal.fingerprint]
        lanes = {}
        for lane in get_args(Lane):
            name = queue.name(lane)
            lanes[lane] = LaneCensus(
                waiting=jobs[name, "waiting"],
                running=jobs[name, "running"],
                leases=leases[name, "running"],
            )
        return Census(lanes, {"resting": resting}, len(workers))

    return take
