"""Reliability of `Retry-After`: who returns at that time is admitted, whatever others do."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.virtual import Kind, exponential, on_redis, world
from wire.line.admission import Refused
from wire.redis.client import Redis

SEEDS = (1, 2, 3)
MEAN = 20.0
SLOTS = 4
SPAN = 60 * MEAN
TARGET = 0.97

LIMITS: dict[str, dict[str, float]] = {
    "max_waiting": {"max_waiting": 30},
    "max_waiting_per_key": {"max_waiting_per_key": 10},
    "max_wait": {"max_wait": 5 * MEAN},
}


@dataclass
class Kept:
    """Refused callers: their number, the number that returned in time, and of those the admitted.

    `beyond` got the longest retry time that there is, without a place. They return then, too, and
    ask again. `longest` is the longest time outside the line, in
    service times, of an admitted one.
    """

    refused: int = 0
    beyond: int = 0
    returned: int = 0
    admitted: int = 0
    longest: float = 0.0

    @property
    def part(self) -> float:
        """Part of the returned callers that was admitted."""
        return self.admitted / self.returned if self.returned else math.nan


async def promises(
    redis: Redis,
    seed: int,
    limit: str,
    *,
    load: float = 1.4,
    keys: int = 8,
    mean: float = MEAN,
    quitters: int = 0,
) -> Kept:
    """Let keys ask for `load` times the slots' capacity, and return at their retry time.

    `quitters` further keys ask four times as often, and never return.
    """
    made = await world(
        redis, seed, slots=SLOTS, **LIMITS[limit] if mean == MEAN else {"max_waiting": 30}
    )
    length = exponential(made.random, mean)
    kept = Kept()

    def caller(kind: Kind, returns: bool) -> Callable[..., Awaitable[None]]:
        began = made.now

        async def ask(returned: bool = False) -> None:
            answer = await made.send(kind)
            if returned:
                kept.returned += 1
                kept.admitted += not isinstance(answer, Refused)
            if isinstance(answer, Refused):
                if returns:
                    kept.refused += 1
                    kept.beyond += not answer.kept
                    promised = answer.kept
                    made.after(max(1, math.ceil(answer.retry_after)), lambda: ask(promised))
            elif returns:
                kept.longest = max(kept.longest, (made.now - began) / mean)

        return ask

    def senders(name: str, every: float, returns: bool) -> None:
        kind = Kind(name, length, cap=SLOTS if limit != "max_waiting_per_key" else 1)

        async def again() -> None:
            await caller(kind, returns)()
            made.after(made.random.expovariate(1 / every), again)

        made.after(made.random.expovariate(1 / every), again)

    every = keys * mean / SLOTS / load
    for n in range(keys):
        senders(f"key-{n}", every, True)
    for n in range(quitters):
        senders(f"quitter-{n}", every / 4, False)
    await made.run(SPAN * mean / MEAN)
    return kept


async def _main(redis: Redis) -> None:
    print("Refused callers that returned at Retry-After (whole seconds): part that was admitted")
    print(f"  (target: {TARGET:.0%}); longest: outside, in service times; quitters never return")
    for limit, mean in [(limit, MEAN) for limit in LIMITS] + [("max_waiting", 0.2)]:
        for keys, quitters, load in ((8, 0, 1.4), (8, 4, 0.9), (60, 0, 1.4), (8, 0, 3.0)):
            for seed in SEEDS:
                kept = await promises(
                    redis, seed, limit, keys=keys, quitters=quitters, load=load, mean=mean
                )
                print(
                    f"  {limit:20} jobs of {mean:4} s, {keys:2} keys, {quitters} quitters,"
                    f" load {load},"
                    f" seed {seed}: {kept.admitted:3} of {kept.returned:3} = {kept.part:6.1%},"
                    f" beyond {kept.beyond:3}, longest {kept.longest:3.0f}"
                    f"{'  MISSED' if kept.part < TARGET else ''}",
                    flush=True,
                )


def main() -> None:
    """Measure and print the result."""
    on_redis(_main)
