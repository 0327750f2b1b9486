"""Fairness of the line: waits of light flows, and shares of the slot time.

In virtual time, so that the figures depend only on the seed. FIFO, first in first out, is the same
load as one user of one key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.virtual import Kind, World, about, exponential, on_redis, quantile, world
from wire.jobs import lane_name
from wire.line.offers import Offer
from wire.redis.client import Redis

SEEDS = (1, 2, 3)
MEAN = 20.0
"""Mean slot time of a job, in seconds."""

SLOTS = 4
BACKLOG = 200
LONG = 3000.0
"""Seconds over which slot time is counted."""

LIMIT = 2.0
"""The longest wait of a light flow's jobs at p95, in service times."""

CLOSE = 0.1
"""The largest deviation of a flow from its fair share of the slot time."""

Kinds = Callable[[World], list[tuple[Kind, int]]]
"""Makes the kinds of jobs that are waiting all the time, with their numbers."""

DRAWS = {"even": about, "exponential": exponential}
ALL_DRAWS = DRAWS | {"equal": lambda _, mean: lambda: mean}


@dataclass(frozen=True)
class LightWait:
    """Wait of a light flow's jobs at p95, in service times: in fair order and in FIFO order."""

    jobs: int
    fair: float
    fifo: float


async def light_waits(
    redis: Redis,
    seed: int,
    *,
    cap: int,
    draw: str = "even",
    of_one_key: bool = False,
    fifo: bool = True,
) -> LightWait:
    """Measure a flow that sends one job at a time, 20 in all, while 200 of another are waiting.

    `of_one_key`: they are users of one key; otherwise each has a key. `fifo`: compare with FIFO.
    """

    async def play(in_order: bool) -> list[float]:
        made = await world(redis, seed, slots=SLOTS)
        length = DRAWS[draw](made.random, MEAN)

        def kind(name: str) -> Kind:
            if in_order:
                return Kind("all", length, cap=SLOTS)
            if of_one_key:
                return Kind("team", length, user=name, cap=cap)
            return Kind(name, length, cap=cap)

        made.burst(kind("heavy"), BACKLOG)
        light = made.one_by_one(kind("light"), 20, delay=5 * MEAN, think=MEAN)
        await made.run()
        return [job.waited / MEAN for job in light]

    ours = await play(False)
    theirs = await play(True) if fifo else []
    return LightWait(len(ours), quantile(ours, 0.95), quantile(theirs, 0.95))


@dataclass(frozen=True)
class Shares:
    """Slot time of each flow relative to its fair share: 1 is exactly fair."""

    fair: dict[str, float]
    fifo: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest deviation from 1."""
        return max(abs(part - 1) for part in self.fair.values())


async def shares(redis: Redis, seed: int, kinds: Kinds, *, fifo: bool = True) -> Shares:
    """Measure the slot time of flows that all have jobs waiting for a long time."""

    async def play(in_order: bool) -> dict[str, float]:
        made = await world(redis, seed, slots=SLOTS)
        weights: dict[str, float] = {}
        for kind, width in kinds(made):
            name = kind.user or kind.key
            weights[name] = kind.weight
            sent = replace(kind, name=name)
            if in_order:
                sent = replace(sent, key="all", user="", cap=SLOTS, weight=1.0)
            made.closed(sent, width)
        await made.run(LONG)
        held = made.held()
        fair = sum(held.values()) / sum(weights.values())
        return {name: held[name] / fair / weight for name, weight in weights.items()}

    return Shares(await play(False), await play(True) if fifo else {})


def equal(cap: int, draw: str = "exponential", *, of_one_key: bool = False) -> Kinds:
    """Two equal flows, one with ten times as many waiting jobs."""

    def kinds(made: World) -> list[tuple[Kind, int]]:
        length = DRAWS[draw](made.random, MEAN)
        both = (("a", 80), ("b", 8))
        if of_one_key:
            return [(Kind("team", length, user=user, cap=cap), n) for user, n in both]
        return [(Kind(key, length, cap=cap), n) for key, n in both]

    return kinds


def many(made: World) -> list[tuple[Kind, int]]:
    """Six keys with one conversation each, and backlogs of very different lengths."""
    length = exponential(made.random, MEAN)
    return [(Kind(f"key-{n}", length), 2 * 2**n) for n in range(6)]


def weighted(made: World) -> list[tuple[Kind, int]]:
    """A key with weight 3."""
    length = exponential(made.random, MEAN)
    return [(Kind("one", length, cap=8), 40), (Kind("three", length, cap=8, weight=3.0), 10)]


def long_and_short(made: World) -> list[tuple[Kind, int]]:
    """Two keys of one family, one with jobs that take six times as long."""
    return [
        (Kind("long", exponential(made.random, 2 * MEAN), cap=8), 20),
        (Kind("short", exponential(made.random, MEAN / 3), cap=8), 20),
    ]


@dataclass(frozen=True)
class Lanes:
    """Average number of slots of each lane, if both want all and if one is alone; wait of an image
    behind 200 chats at p95, in service times of a chat."""

    chat: float
    images: float
    chat_alone: float
    image_wait: float


async def lanes(redis: Redis, seed: int, span: float = LONG) -> Lanes:
    """Measure lanes: three slots for chats, one for images, and each may use the other's."""
    made = await world(redis, seed, slots=SLOTS)
    chat = Kind("chat", about(made.random, MEAN), cap=SLOTS)
    image = Kind("image", about(made.random, 2 * MEAN), cap=SLOTS, lane="images")
    made.closed(chat, 20)
    made.closed(image, 20)
    await made.run(span)
    held = made.held()

    made = await world(redis, seed, slots=SLOTS)
    chat = Kind("chat", about(made.random, MEAN), cap=SLOTS)
    image = Kind("image", about(made.random, 2 * MEAN), cap=SLOTS, lane="images")
    made.closed(chat, 50)
    await made.run(span)
    alone = made.held()["chat"]
    waits = made.one_by_one(image, 20, think=MEAN)
    await made.run(span)
    return Lanes(
        held["chat"] / span,
        held["image"] / span,
        alone / span,
        quantile([job.waited / MEAN for job in waits if job.started >= 0], 0.95),
    )


KEYS = 20
"""Keys that share the slots of one server."""


async def spread(
    redis: Redis, seed: int, models_of: Models, draw: str = "equal", span: float = LONG
) -> float:
    """Measure keys that share two slots of one server, and always have jobs for all their models.

    Return the largest deviation of a key's slot time from an equal share, in jobs.
    """
    models = {n: models_of(n) for n in range(KEYS)}
    lanes = sorted({lane_name("chat", name) for names in models.values() for name in names})
    offer = Offer(
        upstream="gpu",
        max_concurrency=0,
        accounts={"gpu": 2},
        lanes=lanes,
        about=b"",
    )
    made = await world(redis, seed, slots=2, offers=[offer])
    length = ALL_DRAWS[draw](made.random, MEAN)
    for n, names in models.items():
        for name in names:
            lane = lane_name("chat", name)
            made.closed(Kind(f"key-{n}", length, cap=0, lane=lane), 3)
    await made.run(span)
    held = made.held()
    fair = sum(held.values()) / KEYS
    return max(abs(each - fair) for each in held.values()) / MEAN


Models = Callable[[int], Sequence[str]]
"""Names the models of a key, given by its number."""

MODELS: dict[str, Models] = {
    "one model": lambda n: ["a"],
    "four models": lambda n: ["abcd"[n % 4]],
    "most keys at one of four": lambda n: ["aaaaaaabcd"[n % 10]],
    "two models for each key": lambda n: ["abcd"[n % 4], "abcd"[(n + 1) % 4]],
    "one key at all models": lambda n: "abcd" if n == 0 else ["abcd"[n % 4]],
}

LOADS: dict[str, Kinds] = {
    "two keys, cap 100": equal(100),
    "two keys, cap 3": equal(3),
    "two users, cap 4": equal(4, of_one_key=True),
    "two users, cap 1, even": equal(1, "even", of_one_key=True),
    "two users, cap 1": equal(1, of_one_key=True),
    "six keys, cap 1": many,
    "weights 1:3": weighted,
    "long and short jobs": long_and_short,
}


async def _main(redis: Redis) -> None:
    print(
        f"Fairness with {SLOTS} slots; FIFO: the same load in the order of arrival; seeds {SEEDS}"
    )
    print(f"  A light flow's wait at p95, in service times (target: at most {LIMIT:g}),")
    print(f"  while another has {BACKLOG} jobs waiting; the worst seed")
    for of_one_key in (False, True):
        # With a cap of 1, users of one key wait for the one conversation that runs.
        for cap in (3, 4, 100) if of_one_key else (1, 3, 4, 100):
            for draw in DRAWS:
                runs = [
                    await light_waits(redis, seed, cap=cap, draw=draw, of_one_key=of_one_key)
                    for seed in SEEDS
                ]
                print(
                    f"    {'user' if of_one_key else 'key'}, cap {cap:3}, lengths {draw:11}"
                    f" {max(run.fair for run in runs):6.2f}"
                    f"   FIFO {max(run.fifo for run in runs):5.1f}",
                    flush=True,
                )
    print(f"  Slot time over {LONG:.0f} s by fair share (target: 1 +- {CLOSE}); in brackets FIFO")
    for load, kinds in LOADS.items():
        for seed in SEEDS:
            got = await shares(redis, seed, kinds)
            parts = ", ".join(f"{k} {part:.2f} ({got.fifo[k]:.2f})" for k, part in got.fair.items())
            missed = "" if got.worst <= CLOSE else "  MISSED"
            print(f"    {load:22} seed {seed}: {parts}{missed}", flush=True)
    print(f"  {KEYS} keys share two slots of a server; largest deviation from equal, in jobs")
    for name, models in MODELS.items():
        for draw in ALL_DRAWS:
            apart = [await spread(redis, seed, models, draw) for seed in SEEDS]
            print(f"    {name:24} lengths {draw:11} {max(apart):6.2f}", flush=True)
    print("  Lanes: three slots for chats, one for images; each may use the other's free ones")
    for seed in SEEDS:
        lane = await lanes(redis, seed)
        print(
            f"    seed {seed}: chats held {lane.chat:.2f}, images {lane.images:.2f};"
            f" chats alone {lane.chat_alone:.2f}; then an image waited {lane.image_wait:.2f} at p95"
        )


def main() -> None:
    """Measure and print the result."""
    on_redis(_main)
