"""Redis' own time for each call of an operator's board, for lines of different lengths."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from statistics import median
from typing import Any

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from wire import VERSION
from wire.line import keys
from wire.line.admission import NewJob
from wire.line.operator import OperatorLine
from wire.line.presence import Presence
from wire.line.scripts import Scripts
from wire.redis.client import Redis, connect
from wire.seal import Seal

LENGTHS = (5_000, 100_000)
BLOCKED = 5_000
"""Waiting jobs whose keys' own accounts are parked, or cool down."""

PER_KEY = 5
SLOTS = 300
TIMES = 20
AT_ONCE = 50
PAGE = 100
TARGET = 5_000
BLOCKED_FOR = 3600.0
"""Seconds until these can be used again."""


class TimedScripts(Scripts):
    """Scripts whose times in Redis are noted, in microseconds."""

    def __init__(self, redis: Redis, fingerprint: str) -> None:
        super().__init__(redis, fingerprint)
        self.took: defaultdict[str, list[int]] = defaultdict(list)

    async def run(self, name: str, *args: str | bytes | int | float) -> Any:
        """Run a script, and note its time."""
        before = await self._spent()
        reply = await super().run(name, *args)
        self.took[name].append(await self._spent() - before)
        return reply

    async def _spent(self) -> int:
        stats = await self.redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {"usec": 0})["usec"])


async def _fill(redis: Redis, line: WholeLine, length: int) -> None:
    """Let some jobs run, and others wait."""
    await line.offer_main()
    await line.renew(Presence("w", VERSION, "fingerprint", SLOTS), [])
    await redis.hset("gateway:pulse", "since", "0")  # type: ignore[misc]  # all has been well for ages
    until = (time.time() + BLOCKED_FOR) * 1000
    blocked = {f"family blocked-{n} gpt_4_s": until for n in range(0, BLOCKED, 2)}
    blocked |= {f"account blocked-{n}": until for n in range(1, BLOCKED, 2)}
    await redis.zadd(keys.later, blocked)

    def new(n: int) -> NewJob:
        key = f"blocked-{n}" if n < BLOCKED else f"key-{(n - BLOCKED) // PER_KEY}"
        return NewJob(id=f"job-{n}", key=key, front_end="front", own_slots=1)

    async def fill(numbers: range) -> None:
        for n in numbers:
            await line.enqueue(new(n), b"body")

    await asyncio.gather(*(fill(range(at, length + SLOTS, AT_ONCE)) for at in range(AT_ONCE)))
    claims = await line.claim("w", SLOTS)
    await line.renew(Presence("w", VERSION, "fingerprint", SLOTS), claims)


async def _measure(server: EmbeddedRedis, length: int) -> None:
    redis = connect(redis_url(server.url))
    await redis.flushall()
    config = settings.Queue(
        max_waiting=10**7, max_waiting_per_key=10**7, max_wait=1e7, lease=1e5, heartbeat=1e4
    )
    seal = Seal(b"benchmark")
    await _fill(
        redis, WholeLine(redis, seal, config, settings.Upstream(max_concurrency=SLOTS)), length
    )
    scripts = TimedScripts(redis, seal.fingerprint)
    line = OperatorLine(scripts, config)
    board = await line.board()
    scripts.took.clear()
    for _ in range(TIMES):
        await line.board()
    print(f"  {board.waiting_total} waiting, {board.running_total} running")
    _show(scripts.took)
    scripts.took.clear()
    for _ in range(TIMES):
        await line.jobs(board.waiting_total // 2, PAGE)
    print(f"  a page of {PAGE} of these jobs")
    _show(scripts.took)
    await redis.aclose()


def _show(took: dict[str, list[int]]) -> None:
    for name, times in took.items():
        calls, typical = len(times) // TIMES, median(times)
        print(
            f"    {name:16} {calls:4} calls, {typical:6.0f} at the median, {max(times):6} at most"
        )
    print(f"    {sum(map(sum, took.values())) / TIMES:.0f} in all", flush=True)


def main() -> None:
    """Measure and print the result."""
    print(f"Redis' time for a board and a page of jobs, in microseconds (target: {TARGET} a call)")
    with EmbeddedRedis() as server:
        for length in LENGTHS:
            asyncio.run(_measure(server, length))


if __name__ == "__main__":
    main()
