"""Random lines: scenarios of mixed lengths, keys, caps, lanes, weights, tiers and changes of pace.

`python -m benchmarks random_lines --seed 1 --scenarios 150`. Every scenario begins with an empty
Redis and runs in virtual time. Refusals are off, so that the true wait is known of a job that would
have been refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from benchmarks.virtual import FOREVER, Job, Kind, World, on_redis, world
from wire.line.admission import Refused
from wire.redis.client import Redis

SEED = 1
SCENARIOS = 150
JOBS = 300
"""Jobs of a scenario that are judged. Its senders go on until the last of them has started."""

AT_MOST = 2000
"""Jobs of a scenario."""

SPAN = FOREVER / 2
"""Seconds after which a scenario ends; jobs that have not started are not judged."""

SHORTEST, LONGEST = 0.05, 600.0
"""Limits of a job's slot time, in seconds."""

MAX_WAIT = 300.0
"""Seconds: the default of `queue.max_wait`. A job with a longer forecast would be refused."""

FALSE = 0.005
"""Part of the jobs that may be refused although they would have waited less."""

EQUALS = ("equal-a", "equal-b")
"""Two keys with the same properties that always have jobs waiting."""

Action = Callable[[], Awaitable[None]]


@dataclass
class Findings:
    """Counts over all scenarios, and the faults in words."""

    jobs: int = 0
    refused: int = 0
    falsely: int = 0
    misled: list[str] = field(default_factory=list)
    starved: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    @property
    def false_part(self) -> float:
        """Part of the jobs that would have been refused falsely."""
        return self.falsely / self.jobs if self.jobs else 0.0

    @property
    def faults(self) -> list[str]:
        """All faults that no scenario may have."""
        return [*self.misled, *self.starved, *self.unequal]


class Scenario:
    """One random line: its senders, and the jobs that are judged."""

    def __init__(self, made: World, seed: int, slots: int) -> None:
        self.made = made
        self.seed = seed
        self.random = Random(seed)
        self.slots = slots
        self.mean = math.exp(self.random.uniform(math.log(SHORTEST), math.log(60)))
        self.pace = 1.0
        self.rare = self.random.random() < 0.15
        self.judged: list[Job] = []
        self.retry_after: dict[int, float] = {}
        """Retry times of the judged jobs that would have been refused, by position."""
        self.cap = self.random.choice((1, 2, 8, 100))
        """Of the two equal keys."""

    async def play(self) -> None:
        """Set up the senders and run until all judged jobs have started."""
        self._equals()
        for number in range(round(math.exp(self.random.uniform(0, math.log(200))))):
            for user in ("", "u")[: self.random.choice((1, 1, 2))]:
                self._sender(f"key-{number}", user)
        if self.random.random() < 0.4:
            self._change_pace()
        end = self.made.now + SPAN
        await self.made.run_while(
            lambda: (
                self.made.now < end
                and (len(self.judged) < JOBS or any(job.started < 0 for job in self.judged))
            )
        )

    def _equals(self) -> None:
        factor = math.exp(self.random.uniform(-1, 1))
        for name in EQUALS:
            kind = Kind(name, lambda: self._length(factor, "even"), cap=self.cap)
            self._program(kind, 3 + 2 * min(self.cap, self.slots), 0.0, 0.0)

    def _sender(self, key: str, user: str) -> None:
        draw = self.random
        factor, shape = math.exp(draw.uniform(-1, 1)), draw.choice(("even", "exponential"))
        kind = Kind(
            key,
            lambda: self._length(factor, shape),
            user=user,
            cap=draw.choice((1, 1, 2, 8, 100)),
            weight=draw.choice((1.0, 1.0, 1.0, 3.0)),
            tier=draw.choice((1.0, 1.0, 1.0, 4.0)),
            lane="images" if draw.random() < 0.15 else "chat",
            family=draw.choice(("gpt_4_s", "gpt_4_s", "gpt_3_5")),
        )
        delay = draw.choice((0.0, 0.0, draw.uniform(0, 50) * self.mean))
        match draw.choice(("program", "light", "burst")):
            case "program":
                self._program(kind, draw.randint(1, 12), 0.0, delay)
            case "light":
                self._program(kind, 1, 5 * self.mean, delay)
            case _:
                self._bursts(kind, 10, delay)

    def _change_pace(self) -> None:
        pace = self.random.choice((0.05, 0.2, 5.0, 20.0))

        async def change() -> None:
            self.pace = pace

        self.made.after(self.random.uniform(5, 60) * self.mean, change)

    def _length(self, factor: float, shape: str) -> float:
        mean = self.mean * factor * self.pace
        if self.rare and self.random.random() < 0.01:
            mean = LONGEST
        if shape == "even":
            drawn = mean * self.random.uniform(0.7, 1.3)
        else:
            drawn = self.random.expovariate(1 / mean)
        return min(max(drawn, SHORTEST), LONGEST)

    def _program(self, kind: Kind, width: int, think: float, delay: float) -> None:
        async def again() -> None:
            await self._send(kind, ended)

        async def ended() -> None:
            self.made.after(self.random.uniform(0, 2 * think), again)

        for _ in range(width):
            self.made.after(delay, again)

    def _bursts(self, kind: Kind, most: int, delay: float) -> None:
        """A burst of up to `most` jobs, and the next one a while after the last of them ended."""
        running = 0

        async def again() -> None:
            nonlocal running
            running = self.random.randint(1, most)
            for _ in range(running):
                await self._send(kind, ended)

        async def ended() -> None:
            nonlocal running
            running -= 1
            if not running:
                self.made.after(self.random.expovariate(1 / (10 * self.mean)), again)

        self.made.after(delay, again)

    async def _send(self, kind: Kind, then: Action) -> None:
        if len(self.made.jobs) >= AT_MOST:
            return
        answer = await self.made.send(kind, then, MAX_WAIT)
        if isinstance(answer, Refused):
            self.retry_after[len(self.judged)] = answer.retry_after
            answer = await self.made.send(kind, then)
            assert isinstance(answer, Job), answer
        if len(self.judged) < JOBS:
            self.judged.append(answer)


async def play(redis: Redis, seed: int, findings: Findings) -> None:
    """Play one scenario and add its findings."""
    slots = Random(seed).choice((1, 2, 4, 4, 8, 16))
    made = await world(redis, seed, slots=slots, max_wait=604_800)
    scenario = Scenario(made, seed, slots)
    await scenario.play()
    _judge_refusals(scenario, findings)
    _judge_waits(scenario, findings)
    _judge_equals(scenario, findings)


def _judge_refusals(scenario: Scenario, findings: Findings) -> None:
    started = [job for job in scenario.judged if job.started >= 0]
    findings.jobs += len(started)
    for position, job in enumerate(scenario.judged):
        retry_after = scenario.retry_after.get(position)
        if retry_after is None or job.started < 0:
            continue
        findings.refused += 1
        findings.falsely += job.waited <= MAX_WAIT
        if retry_after > 3 * job.waited + 60:
            findings.misled.append(
                f"{scenario.seed}: retry after {retry_after:.0f} s, waited {job.waited:.1f} s"
            )


def _judge_waits(scenario: Scenario, findings: Findings) -> None:
    """No key with waiting jobs is passed over for longer than one job of each other key takes.

    Weights and reserved slots scale that. A key whose seats hold long jobs pays for them all first,
    so as many count for itself; and a running job cannot be interrupted.
    """
    keys: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in scenario.made.started:
        keys[job.kind.key, job.kind.lane].append(job)
    longest = max(job.length for job in scenario.made.started)
    for (key, lane), jobs in keys.items():
        reserved = scenario.slots * (0.75 if lane == "chat" else 0.25)
        seats = min(reserved, min(job.kind.cap for job in jobs))
        weight = min(job.kind.weight for job in jobs)
        turns = sum(
            max(1.0, max(job.kind.weight for job in others) / weight)
            for (other, _), others in keys.items()
            if other != key
        )
        bound = (turns + 1 + seats) * longest / seats + longest
        if (gap := longest_gap(jobs)) > bound:
            findings.starved.append(
                f"{scenario.seed}: {key} waited {gap:.1f} s, at most {bound:.1f} s is fair"
            )


def _judge_equals(scenario: Scenario, findings: Findings) -> None:
    """The slot times of two equal keys differ by at most one longest job for each seat."""
    jobs = [[job for job in scenario.made.started if job.kind.key == key] for key in EQUALS]
    if not all(jobs):
        return
    since = max(its[0].arrived for its in jobs)
    till = min(its[-1].arrived for its in jobs)
    apart = abs(slot_time(jobs[0], since, till) - slot_time(jobs[1], since, till))
    longest = max(job.length for its in jobs for job in its)
    allowed = longest * min(scenario.cap, scenario.slots)
    if apart > allowed:
        findings.unequal.append(
            f"{scenario.seed}: equal keys are {apart:.1f} s apart, at most {allowed:.1f} s is fair"
        )


def slot_time(jobs: Iterable[Job], since: float, till: float) -> float:
    """Seconds for which jobs held slots within a span of time."""
    ends = (job.ended if job.ended >= 0 else till for job in jobs)
    return sum(
        max(0.0, min(end, till) - max(job.started, since))
        for job, end in zip(jobs, ends, strict=True)
    )


def longest_gap(jobs: list[Job]) -> float:
    """The longest time in which jobs waited and none of them started."""
    by_start = sorted(jobs, key=lambda job: job.started)
    worst, last, oldest = 0.0, -math.inf, math.inf
    waiting_since = []
    for job in reversed(by_start):
        oldest = min(oldest, job.arrived)
        waiting_since.append(oldest)
    for job, since in zip(by_start, reversed(waiting_since), strict=True):
        worst = max(worst, job.started - max(since, last))
        last = job.started
    return worst


async def _main(redis: Redis, seed: int, scenarios: int) -> None:
    findings = Findings()
    for number in range(seed, seed + scenarios):
        await play(redis, number, findings)
    print(f"{scenarios} random lines from seed {seed}, {findings.jobs} jobs")
    print(
        f"  would be refused: {findings.refused}, falsely {findings.falsely}"
        f" = {findings.false_part:.2%} of all (target: {FALSE:.1%})"
    )
    print(f"  retry times of more than a minute and three times the wait: {len(findings.misled)}")
    print(f"  keys that waited longer than fair: {len(findings.starved)}")
    print(f"  equal keys that were not equal: {len(findings.unequal)}")
    for fault in findings.faults:
        print(f"    {fault}")


def main(seed: int = SEED, scenarios: int = SCENARIOS) -> None:
    """Measure and print the result."""
    on_redis(lambda redis: _main(redis, seed, scenarios))
