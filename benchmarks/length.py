"""Redis' own time for each change of the line, for lines of different lengths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from local.redis import HOST, EmbeddedRedis
from settings.redis_url import redis_url
from wire import VERSION
from wire.jobs import lane_name
from wire.line.admission import Accepted, NewJob
from wire.line.claims import Claim
from wire.line.offers import Offer
from wire.line.presence import Presence
from wire.redis.client import Redis, connect
from wire.seal import Seal

LENGTHS = (100, 10_000, 100_000)
FEW = 5
TIMES = 200
TARGET = 1.5
AT_ONCE = 50
SLOTS = 4
MODELS = 20


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


async def cost(
    redis: Redis, length: int, keys: int, operations: int = TIMES, models: int = 0
) -> Cost:
    """Fill the line with `length` jobs of `keys` keys, and measure each operation.

    With `models`, the jobs are for that many models of one server; else on keys' own accounts.
    """
    return _median([took async for took in _rounds(redis, length, keys, operations, models)])


def _median(rounds: list[dict[str, int]]) -> Cost:
    return Cost(**{name: median(took[name] for took in rounds) for name in OPERATIONS})


async def _rounds(
    redis: Redis, length: int, keys: int, operations: int, models: int = 0
) -> AsyncIterator[dict[str, int]]:
    """Fill the line; then do each operation once per round, and yield the times."""
    await redis.flushdb()
    config = settings.Queue(
        max_waiting=10**7, max_waiting_per_key=10**7, max_wait=1e7, lease=1e5, heartbeat=1e4
    )
    queue = WholeLine(redis, Seal(b"benchmark"), config, settings.Upstream(max_concurrency=SLOTS))

    lanes = [lane_name("chat", f"model-{n}") for n in range(models)]
    upstream = "gpu" if models else "main"

    def new(n: int) -> NewJob:
        job = NewJob(id=f"job-{n}", key=f"key-{n % keys}", front_end="front", own_slots=2)
        # Not every key with the same model, and not every job of a key.
        return replace(job, own_slots=0, lane=lanes[n * 7 % models]) if models else job

    async def fill(numbers: range) -> None:
        for n in numbers:
            await queue.enqueue(new(n), b"body")

    await queue.offer_main()
    await queue.offer(
        Offer(
            upstream="gpu",
            max_concurrency=0,
            accounts={"gpu": SLOTS},
            lanes=lanes,
            about=b"",
        )
    )
    await queue.renew(Presence("w", VERSION, "fingerprint", SLOTS, (upstream,)), [])
    await redis.hset("gateway:pulse", "since", "0")  # type: ignore[misc]  # all has been well for ages
    for lane in lanes:  # the first answers of each model are more work: tags are corrected
        for kind in (lane, f"{lane} {lane.partition(':')[2]}"):
            known = {f"{kind} n": 10, f"{kind} mean": 15_000, f"{kind} square": 15_000**2}
            await redis.hset("gateway:service", mapping=known)  # type: ignore[misc]  # redis-py: sync or async
    await asyncio.gather(*(fill(range(start, length, AT_ONCE)) for start in range(AT_ONCE)))

    async def timed(operation: Callable[[], Awaitable[object]], expected: type | object) -> int:
        before = await _spent(redis)
        got = await operation()
        took = await _spent(redis) - before
        assert got == expected or (isinstance(expected, type) and isinstance(got, expected)), got
        return took

    held = await queue.claim("w", SLOTS, [upstream])
    for n in range(length, length + operations):
        await queue.enqueue(new(n + operations), b"body")  # for the one that goes
        job = held.pop(0)
        await queue.begin(job, b"entry", {})
        took: dict[str, int] = {}

        async def finish(job: Claim = job) -> bool:
            return await queue.finish(job.id, job.attempt, "done", b"entry", {})

        took["finish"] = await timed(finish, True)

        async def claim() -> int:
            held.extend(await queue.claim("w", 1, [upstream]))
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
    for many, models in ((False, 0), (True, 0), (False, MODELS), (True, MODELS)):
        if models and not many:
            print(f"  The same for {MODELS} models of a server whose slots all keys share")
        keys = [length if many else FEW for length in LENGTHS]
        lines = [_rounds(*line, TIMES, models) for line in zip(clients, LENGTHS, keys, strict=True)]
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
