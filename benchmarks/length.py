"""What the length of the line costs: Redis' own time for each change of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from arq.connections import ArqRedis

import settings
from benchmarks.virtual import on_redis
from wire import VERSION
from wire.admission import Accepted, NewJob
from wire.claims import Claim
from wire.presence import Presence
from wire.queue import Queue
from wire.seal import Seal

LENGTHS = (100, 10_000, 100_000)
FEW = 5
TIMES = 200
TARGET = 1.5
AT_ONCE = 50
SLOTS = 4


@dataclass(frozen=True)
class Cost:
    """Microseconds of Redis' time, the median of many."""

    enqueue: float
    claim: float
    finish: float
    cancel: float
    look: float


OPERATIONS = ("enqueue", "claim", "finish", "cancel", "look")


async def _spent(redis: ArqRedis) -> int:
    stats = await redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["usec"])


async def cost(redis: ArqRedis, length: int, keys: int, operations: int = TIMES) -> Cost:
    """Fill the line with so many jobs of so many keys, and see what each operation takes."""
    await redis.flushall()
    config = settings.Queue(
        max_waiting=10**7, max_waiting_per_key=10**7, max_wait=1e7, lease=1e5, heartbeat=1e4
    )
    queue = Queue(redis, Seal(b"benchmark"), config, settings.Upstream(max_concurrency=SLOTS))

    def new(n: int) -> NewJob:
        return NewJob(id=f"job-{n}", account=f"key-{n % keys}", front="front", cap=2)

    async def fill(numbers: range) -> None:
        for n in numbers:
            await queue.enqueue(new(n), b"body")

    await queue.renew(Presence("w", VERSION, "fingerprint", SLOTS), [])
    await redis.hset("gateway:pulse", "since", "0")  # type: ignore[misc]  # all has been well for ages
    await asyncio.gather(*(fill(range(start, length, AT_ONCE)) for start in range(AT_ONCE)))

    async def timed(operation: Callable[[], Awaitable[object]], expected: type | object) -> int:
        before = await _spent(redis)
        got = await operation()
        took = await _spent(redis) - before
        assert got == expected or (isinstance(expected, type) and isinstance(got, expected)), got
        return took

    samples: dict[str, list[int]] = {name: [] for name in OPERATIONS}
    held = await queue.claim("w", SLOTS)
    for n in range(length, length + operations):
        await queue.enqueue(new(n + operations), b"body")  # for the one that goes
        job = held.pop(0)
        await queue.begin(job, b"entry", {})

        async def finish(job: Claim = job) -> bool:
            return await queue.finish(job.id, job.attempt, "done", b"entry", {})

        samples["finish"].append(await timed(finish, True))

        async def claim() -> int:
            held.extend(await queue.claim("w", 1))
            return len(held)

        samples["claim"].append(await timed(claim, SLOTS))
        samples["enqueue"].append(await timed(lambda n=n: queue.enqueue(new(n), b"body"), Accepted))  # type: ignore[misc]  # mypy: default arguments
        seen = new(n)
        samples["look"].append(await timed(lambda seen=seen: _look(queue, seen), True))  # type: ignore[misc]  # mypy: default arguments
        samples["cancel"].append(await timed(lambda n=n: queue.cancel(f"job-{n}"), "cancelled"))  # type: ignore[misc]  # mypy: default arguments
    return Cost(**{name: median(took) for name, took in samples.items()})


async def _look(queue: Queue, job: NewJob) -> bool:
    return await queue.look(job.id, job.account) is not None


async def _main(redis: ArqRedis) -> None:
    names = OPERATIONS
    print(f"Redis' time for one operation, in microseconds: medians of {TIMES}")
    print(f"  {'waiting':>8} {'keys':>8}" + "".join(f"{name:>9}" for name in names))
    for many in (False, True):
        first: Cost | None = None
        worst = 0.0
        for length in LENGTHS:
            keys = length if many else FEW
            got = await cost(redis, length, keys)
            row = [getattr(got, name) for name in names]
            print(f"  {length:8} {keys:8}" + "".join(f"{took:9.0f}" for took in row), flush=True)
            first = first or got
            ratios = (took / getattr(first, n) for n, took in zip(names, row, strict=True))
            worst = max(worst, *ratios)
        print(f"    at most {worst:.2f} times what it is with {LENGTHS[0]} (target: {TARGET})")


def main() -> None:
    """Measure and print."""
    on_redis(_main)
