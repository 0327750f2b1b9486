"""Whether `Retry-After` can be trusted: who comes back when told is let in, whoever else comes."""

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
TARGET = 0.95

LIMITS: dict[str, dict[str, float]] = {
    "max_waiting": {"max_waiting": 30},
    "max_waiting_per_key": {"max_waiting_per_key": 10},
    "max_wait": {"max_wait": 5 * MEAN},
}


@dataclass
class Kept:
    """Callers who were told when to come back: how many did, and who was let in then.

    `longest` is the longest time outside, in service times, of those who got in.
    """

    told: int = 0
    came: int = 0
    let_in: int = 0
    longest: float = 0.0

    @property
    def part(self) -> float:
        """Of those who came when told, how many were let in."""
        return self.let_in / self.came if self.came else math.nan


async def promises(
    redis: Redis,
    seed: int,
    limit: str,
    *,
    load: float = 1.4,
    keys: int = 8,
    mean: float = MEAN,
    liars: int = 0,
) -> Kept:
    """So many keys ask for `load` times what the slots can do, and come back when told.

    `liars`: so many keys more ask four times as often, and never come back.
    """
    made = await world(
        redis, seed, slots=SLOTS, **LIMITS[limit] if mean == MEAN else {"max_waiting": 30}
    )
    length = exponential(made.random, mean)
    kept = Kept()

    def caller(kind: Kind, honest: bool) -> Callable[..., Awaitable[None]]:
        began = made.now

        async def ask(returned: bool = False) -> None:
            answer = await made.send(kind)
            if returned:
                kept.came += 1
                kept.let_in += not isinstance(answer, Refused)
            if isinstance(answer, Refused):
                if honest:
                    kept.told += 1
                    made.after(max(1, math.ceil(answer.retry_after)), lambda: ask(True))
            elif honest:
                kept.longest = max(kept.longest, (made.now - began) / mean)

        return ask

    def senders(name: str, every: float, honest: bool) -> None:
        kind = Kind(name, length, cap=SLOTS if limit != "max_waiting_per_key" else 1)

        async def again() -> None:
            await caller(kind, honest)()
            made.after(made.random.expovariate(1 / every), again)

        made.after(made.random.expovariate(1 / every), again)

    every = keys * mean / SLOTS / load
    for n in range(keys):
        senders(f"key-{n}", every, True)
    for n in range(liars):
        senders(f"liar-{n}", every / 4, False)
    await made.run(SPAN * mean / MEAN)
    return kept


async def _main(redis: Redis) -> None:
    print("Callers who were refused and came back when told (whole seconds): how many were let in")
    print(f"  (target: {TARGET:.0%}); longest: outside, in service times; liars never come back")
    for limit, mean in [(limit, MEAN) for limit in LIMITS] + [("max_waiting", 0.2)]:
        for keys, liars, load in ((8, 0, 1.4), (8, 4, 0.9), (60, 0, 1.4), (8, 0, 3.0)):
            for seed in SEEDS:
                kept = await promises(
                    redis, seed, limit, keys=keys, liars=liars, load=load, mean=mean
                )
                print(
                    f"  {limit:20} jobs of {mean:4} s, {keys:2} keys, {liars} liars, load {load},"
                    f" seed {seed}: {kept.let_in:3} of {kept.came:3} = {kept.part:6.1%},"
                    f" longest {kept.longest:3.0f}{'  MISSED' if kept.part < TARGET else ''}",
                    flush=True,
                )


def main() -> None:
    """Measure and print."""
    on_redis(_main)
