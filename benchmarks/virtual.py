"""The real line on a real Redis, in virtual time: hours of load in seconds, the same in every run.

The scripts run with a stopped clock, which is set to the time of one action after the other. So a
measurement depends only on its seed and on the scripts, not on the load of the machine. Expiries in
Redis still go by its own clock, which is the slower one here: nothing expires too early.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from wire import VERSION
from wire.line.admission import Accepted, NewJob, Refused
from wire.line.claims import Claim
from wire.line.offers import Offer
from wire.line.presence import Presence
from wire.line.status import FinalState
from wire.redis.client import Redis, connect
from wire.seal import Seal

FRAMES = {"front": b"frame"}
FOREVER = 1e5
"""Seconds: leases and presences outlive every run, so that they need not be renewed."""


@dataclass(frozen=True)
class Kind:
    """Properties of a sender's jobs. `length` draws the slot time of one.

    `name` is the sender's name in the measurement, by default its key. `cap` is the number of slots
    of the key's own account; 0, if the jobs run on an account that keys share. `refused`: the
    upstream refuses the key after that time.
    """

    key: str
    length: Callable[[], float]
    name: str = ""
    user: str = ""
    cap: int = 1
    weight: float = 1.0
    tier: float = 1.0
    lane: str = "chat"
    family: str = "gpt_4_s"
    refused: bool = False


@dataclass
class Job:
    """An accepted job. `length` is its slot time; all times are in seconds."""

    kind: Kind
    length: float
    arrived: float
    predicted: float
    started: float = -1.0
    ended: float = -1.0
    then: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The sender's name."""
        return self.kind.name or self.kind.key

    @property
    def waited(self) -> float:
        """Wait in seconds."""
        return self.started - self.arrived


class World:
    """A line, a worker that holds all slots, and an agenda of actions."""

    def __init__(
        self, queue: WholeLine, slots: int, seed: int, offers: Sequence[Offer] = ()
    ) -> None:
        self.random = Random(seed)
        self.now = 1e6
        self.jobs: dict[str, Job] = {}
        self._queue = queue
        self._slots = slots
        self._offers = offers
        self._upstreams = ("main", *(offer.upstream for offer in offers))
        self._running = 0
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []

    @property
    def started(self) -> list[Job]:
        """The jobs that have started, in the order of their arrival."""
        return [job for job in self.jobs.values() if job.started >= 0]

    def at(self, when: float, action: Callable[[], Awaitable[None]]) -> None:
        """Do something at a time, or now if that has passed."""
        heapq.heappush(self._agenda, (max(when, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        """Do something after some seconds."""
        self.at(self.now + seconds, action)

    async def run(self, seconds: float = math.inf) -> None:
        """Let time pass until the agenda is empty, at most `seconds`."""
        end = self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            await self._step()
        if end < math.inf:
            self.now = end
            await self._queue.set_clock(end)

    async def run_until_started(self, since: float, till: float) -> list[Job]:
        """Run until all jobs that arrive in a span of time have started, and return them."""
        await self.run(till - self.now)
        jobs = [job for job in self.jobs.values() if since <= job.arrived < till]
        while any(job.started < 0 for job in jobs):
            await self._step()
        return jobs

    async def run_while(self, unfinished: Callable[[], bool]) -> None:
        """Run while a condition holds and the agenda is not empty."""
        while self._agenda and unfinished():
            await self._step()

    async def _step(self) -> None:
        when, _, action = heapq.heappop(self._agenda)
        if when > self.now:
            self.now = when
            await self._queue.set_clock(when)
        await action()

    async def prepare(self) -> None:
        """Register the worker with the line, and let the line settle."""
        for _ in range(4):
            await self._queue.set_clock(self.now)
            await self._queue.offer_main()
            for offer in self._offers:
                await self._queue.offer(offer)
            presence = Presence("w", VERSION, "fingerprint", self._slots, self._upstreams)
            await self._queue.renew(presence, [])
            self.now += FOREVER / 5
        await self._queue.set_clock(self.now)

    async def send(
        self,
        kind: Kind,
        then: Callable[[], Awaitable[None]] | None = None,
        max_wait: float = math.inf,
    ) -> Job | Refused:
        """Enqueue one job; `then` is called when it has ended. `max_wait` is its own limit."""
        id = f"job-{next(self._numbers)}"
        new = NewJob(
            id=id,
            key=kind.key,
            front_end="front",
            lane=kind.lane,
            family=kind.family,
            own_slots=kind.cap,
            user=kind.user,
            weight=kind.weight,
            tier=kind.tier,
            max_wait=max_wait,
        )
        length = kind.length()
        admission = await self._queue.enqueue(new, b"body")
        if isinstance(admission, Refused):
            return admission
        assert isinstance(admission, Accepted), admission
        job = Job(kind, length, self.now, admission.wait, then=then)
        self.jobs[id] = job
        await self._claim()
        return job

    async def _claim(self) -> None:
        free = self._slots - self._running
        for claim in await self._queue.claim("w", free, self._upstreams) if free else ():
            self._running += 1
            job = self.jobs[claim.id]
            job.started = self.now
            if not job.kind.refused:
                await self._queue.begin(claim, b"entry", {})
            self.after(job.length, lambda claim=claim: self._finish(claim))  # type: ignore[misc]  # mypy: default arguments of a lambda

    async def _finish(self, claim: Claim) -> None:
        job = self.jobs[claim.id]
        job.ended = self.now
        self._running -= 1
        state: FinalState = "failed" if job.kind.refused else "done"
        assert await self._queue.finish(claim.id, claim.attempt, state, b"entry", FRAMES)
        await self._claim()
        if job.then is not None:
            await job.then()

    # Patterns of senders.

    def burst(self, kind: Kind, count: int, delay: float = 0.0) -> None:
        """Send `count` jobs at once."""
        for _ in range(count):
            self.after(delay, lambda: self._send(kind))

    def bursts(self, kind: Kind, every: float, most: int) -> None:
        """Send bursts of 1 to `most` jobs; `every` is the mean of the seconds between them."""

        async def again() -> None:
            self.burst(kind, self.random.randint(1, most))
            self.after(self.random.expovariate(1 / every), again)

        self.after(self.random.expovariate(1 / every), again)

    def closed(
        self,
        kind: Kind,
        concurrent: int,
        think: Callable[[], float] = lambda: 0.0,
        delay: float = 0.0,
    ) -> None:
        """Send like a program: `concurrent` jobs, and another after `think` for each that ends."""

        async def again() -> None:
            await self.send(kind, thought)

        async def thought() -> None:
            self.after(think(), again)

        for _ in range(concurrent):
            self.after(delay, again)

    def one_by_one(self, kind: Kind, count: int, think: float, delay: float = 0.0) -> list[Job]:
        """Send `count` jobs, one at a time. Returns the list that they will be added to."""
        jobs: list[Job] = []

        async def again() -> None:
            job = await self.send(kind, thought)
            assert isinstance(job, Job), job
            jobs.append(job)

        async def thought() -> None:
            if len(jobs) < count:
                self.after(self.random.uniform(0, 2 * think), again)

        self.after(delay, again)
        return jobs

    def held(self) -> dict[str, float]:
        """Return the slot time by sender until now, in seconds."""
        sums: dict[str, float] = defaultdict(float)
        for job in self.started:
            sums[job.name] += (job.ended if job.ended >= 0 else self.now) - job.started
        return sums

    async def _send(self, kind: Kind) -> None:
        await self.send(kind)


def exponential(random: Random, mean: float) -> Callable[[], float]:
    """Draw lengths that vary much: many short ones, few long ones."""
    return lambda: random.expovariate(1 / mean)


def about(random: Random, mean: float, spread: float = 0.3) -> Callable[[], float]:
    """Draw lengths that vary little."""
    return lambda: mean * random.uniform(1 - spread, 1 + spread)


async def world(
    redis: Redis,
    seed: int,
    *,
    slots: int = 4,
    chat: int = 3,
    images: int = 1,
    offers: Sequence[Offer] = (),
    **limits: Any,
) -> World:
    """Make an empty line with a worker, which serves the upstream of own accounts and others.

    Limits are those of `settings.Queue`, wide by default.
    """
    await redis.flushall()
    wide: dict[str, Any] = {
        "max_waiting": 1_000_000,
        "max_waiting_per_key": 1_000_000,
        "max_wait": 1e5,
        "lease": FOREVER,
        "heartbeat": FOREVER / 4,
    }
    config = settings.Queue(chat_slots=chat, images_slots=images, **(wide | limits))
    upstream = settings.Upstream(max_concurrency=slots)
    line = WholeLine(
        redis, Seal(b"a secret of the benchmarks"), config, upstream, stopped_clock=True
    )
    made = World(line, slots, seed, offers)
    await made.prepare()
    return made


def quantile(values: Iterable[float], part: float) -> float:
    """Return the value below which `part` of the values lie; NaN for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def on_redis(work: Callable[[Redis], Awaitable[None]]) -> None:
    """Run a benchmark on an embedded Redis."""

    async def connected(url: str) -> None:
        client = connect(redis_url(url))
        await work(client)
        await client.aclose()

    with EmbeddedRedis() as server:
        asyncio.run(connected(server.url))
