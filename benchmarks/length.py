"""Redis' own time for each change of the line, for lines of different lengths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from statistics import median

import settings
from benchmarks.line import WholeLine
from local.redis import HOST, EmbeddedRedis
from settings.redis_url import redis_url
from wire import VERSION
from wire.line.admission import Accepted, NewJob
from wire.line.claims import Claim
from wire.line.presence import Presence
from wire.redis.client import Redis, connect
from wire.seal import Seal

LENGTHS = (100, 10_000, 100_000)
FEW = 5
TIMES = 200
TARGET = 1.5
AT_ONCE = 50
SLOTS = 4


@dataclass(frozen=True)
class Cost:
    """Median of Redis' time for each operation, in microseconds."""

    enqueue: float
    claim: float
    finish: float
    cancel: float
    look: float


OPERATIONS = ("enqueue", "claim", "finish", "cancel", "look")


async def _spent(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["usec"])


async def cost(redis: Redis, length: int, keys: int, operations: int = TIMES) -> Cost:
    """Fill the line with `length` jobs of `keys` keys, and measure each operation."""
    return _median([took async for took in _rounds(redis, length, keys, operations)])


def _median(rounds: list[dict[str, int]]) -> Cost:
    return Cost(**{name: median(took[name] for took in rounds) for name in OPERATIONS})


async def _rounds(
    redis: Redis, length: int, keys: int, operations: int
) -> AsyncIterator[dict[str, int]]:
    """Fill the line; then do each operation once per round, and yield the times."""
    await redis.flushdb()
    config = settings.Queue(
        max_waiting=10**7, max_waiting_per_key=10**7, max_wait=1e7, lease=1e5, heartbeat=1e4
    )
    queue = WholeLine(redis, Seal(b"benchmark"), config, settings.Upstream(max_concurrency=SLOTS))

    def new(n: int) -> NewJob:
        return NewJob(id=f"job-{n}", key=f"key-{n % keys}", front_end="front", own_slots=2)

    async def fill(numbers: range) -> None:
        for n in numbers:
            await queue.enqueue(new(n), b"body")

    await queue.offer_main()
    await queue.renew(Presence("w", VERSION, "fingerprint", SLOTS), [])
    await redis.hset("gateway:pulse", "since", "0")  # type: ignore[misc]  # all has been well for ages
    await asyncio.gather(*(fill(range(start, length, AT_ONCE)) for start in range(AT_ONCE)))

    async def timed(operation: Callable[[], Awaitable[object]], expected: type | object) -> int:
        before = await _spent(redis)
        got = await operation()
        took = await _spent(redis) - before
        assert got == expected or (isinstance(expected, type) and isinstance(got, expected)), got
        return took

    held = await queue.claim("w", SLOTS)
    for n in range(length, length + operations):
        await queue.enqueue(new(n + operations), b"body")  # for the one that goes
        job = held.pop(0)
        await queue.begin(job, b"entry", {})
        took: dict[str, int] = {}

        async def finish(job: Claim = job) -> bool:
            return await queue.finish(job.id, job.attempt, "done", b"entry", {})

        took["finish"] = await timed(finish, True)

        async def claim() -> int:
            held.extend(await queue.claim("w", 1))
            return len(held)

        took["claim"] = await timed(claim, SLOTS)
        took["enqueue"] = await timed(lambda n=n: queue.enqueue(new(n), b"body"), Accepted)  # type: ignore[misc]  # mypy: default arguments
        seen = new(n)
        took["look"] = await timed(lambda seen=seen: _look(queue, seen), True)  # type: ignore[misc]  # mypy: default arguments
        took["cancel"] = await timed(lambda n=n: queue.cancel(f"job-{n}"), "cancelled")  # type: ignore[misc]  # mypy: default arguments
        yield took


async def _look(queue: WholeLine, job: NewJob) -> bool:
    return await queue.status(job.id, job.key) is not None


async def _in_turns(lines: list[AsyncIterator[dict[str, int]]]) -> list[Cost]:
    """Measure several lines round by round, since no machine is equally fast all the time."""
    rounds: list[list[dict[str, int]]] = [[] for _ in lines]
    for _ in range(TIMES):
        for line, took in zip(lines, rounds, strict=True):
            took.append(await anext(line))
    return [_median(took) for took in rounds]


async def _compare(server: EmbeddedRedis) -> None:
    print(f"Redis' time for one operation, in microseconds: medians of {TIMES}, in turns")
    print(f"  {'waiting':>8} {'keys':>8}" + "".join(f"{name:>9}" for name in OPERATIONS))
    clients = [connect(redis_url(f"redis://{HOST}:{server.port}/{n}")) for n in range(len(LENGTHS))]
    for many in (False, True):
        keys = [length if many else FEW for length in LENGTHS]
        lines = [_rounds(*line, TIMES) for line in zip(clients, LENGTHS, keys, strict=True)]
        costs = await _in_turns(lines)
        first = [getattr(costs[0], name) for name in OPERATIONS]
        worst = 0.0
        for length, of, cost in zip(LENGTHS, keys, costs, strict=True):
            row = [getattr(cost, name) for name in OPERATIONS]
            print(f"  {length:8} {of:8}" + "".join(f"{took:9.0f}" for took in row), flush=True)
            worst = max(worst, *(took / one for took, one in zip(row, first, strict=True)))
        print(f"    at most {worst:.2f} times what it is with {LENGTHS[0]} (target: {TARGET})")
    for client in clients:
        await client.aclose()


def main() -> None:
    """Measure and print the result."""
    with EmbeddedRedis() as server:
        asyncio.run(_compare(server))
