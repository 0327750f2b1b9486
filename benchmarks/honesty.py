"""Accuracy of the forecasts of waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.virtual import Job, Kind, World, about, exponential, on_redis, quantile, world
from wire.redis.client import Redis

CAPS = (1, 3, 8)
SEEDS = (1, 2)
MEAN = 20.0
"""Mean slot time of a job in most mixes, in seconds."""

LONG = 2
"""Service times: only longer waits are counted."""

TARGETS = (0.2, 0.5)
"""Largest errors relative to the actual wait, at the median and at p90."""


@dataclass(frozen=True)
class Accuracy:
    """Errors of the forecasts of long waits, relative to the actual wait."""

    counted: int
    median: float
    p90: float
    bias: float

    @classmethod
    def of(cls, jobs: list[Job]) -> Accuracy:
        """Compute the errors of those jobs that waited long."""
        mean = fmean(job.length for job in jobs)
        long = [job for job in jobs if job.waited > LONG * mean]
        ratios = [(job.predicted - job.waited) / job.waited for job in long]
        off = [abs(ratio) for ratio in ratios]
        return cls(len(long), median(off), quantile(off, 0.9), median(ratios))


WARM = 50 * MEAN
"""Seconds after which the line has learned the behaviour of the senders."""

SPAN = 110 * MEAN
"""Seconds in which the counted jobs arrive: more than 300 jobs."""

Draw = Callable[[float], Callable[[], float]]
Mix = Callable[[World, Draw, int], None]


def bots(made: World, draw: Draw, cap: int) -> None:
    """Programs of different widths."""
    for n, concurrent in enumerate((30, 20, 12, 8, 4, 4, 2, 1)):
        made.closed(Kind(f"key-{n}", draw(MEAN), cap=cap), concurrent)


def bursts(made: World, draw: Draw, cap: int) -> None:
    """Occasional bursts of several keys, at three quarters of the slots' capacity."""
    for n, most in enumerate((49, 49, 29, 29, 19, 19, 9, 9)):
        size = (1 + most) / 2
        made.bursts(Kind(f"key-{n}", draw(MEAN), cap=cap), size * MEAN * 8 / (4 * 0.75), most)


def mixed(made: World, draw: Draw, cap: int) -> None:
    """Programs, bursts, and light keys."""
    made.closed(Kind("bot-0", draw(MEAN), cap=cap), 16)
    made.closed(Kind("bot-1", draw(MEAN), cap=cap), 6)
    for n in range(2):
        made.bursts(Kind(f"burst-{n}", draw(MEAN), cap=cap), 30 * MEAN, 29)
    for n in range(12):
        made.bursts(Kind(f"light-{n}", draw(MEAN), cap=cap), 12 * MEAN, 1)


def families(made: World, draw: Draw, cap: int) -> None:
    """Keys of long jobs, of short ones and of both."""
    long, short = draw(3 * MEAN), draw(MEAN / 2)
    made.closed(Kind("slow", long, cap=cap, family="gpt_4_s"), 8)
    made.closed(Kind("quick", short, cap=cap, family="gpt_3_5"), 20)
    made.closed(Kind("both", long, cap=cap, family="gpt_4_s"), 6)
    made.closed(Kind("both", short, cap=cap, family="gpt_3_5"), 6)
    made.bursts(Kind("quick-2", short, cap=cap, family="gpt_3_5"), 20 * MEAN, 39)
    for n in range(10):
        made.bursts(Kind(f"light-{n}", short, cap=cap, family="gpt_3_5"), 12 * MEAN, 1)


def lengths(made: World, draw: Draw, cap: int) -> None:
    """One family, in which some keys' jobs are long."""
    for n, (mean, width) in enumerate(((40, 10), (10, 20), (40, 3), (10, 5), (20, 12))):
        made.closed(Kind(f"bot-{n}", draw(mean), cap=cap), width)
    made.bursts(Kind("burst-0", draw(40), cap=cap), 40 * MEAN, 19)
    made.bursts(Kind("burst-1", draw(10), cap=cap), 40 * MEAN, 39)


def users(made: World, draw: Draw, cap: int) -> None:
    """Users of one key, and other keys."""
    made.closed(Kind("team", draw(MEAN), user="a", cap=cap), 12)
    made.bursts(Kind("team", draw(MEAN), user="b", cap=cap), 40 * MEAN, 19)
    for n in range(6):
        made.bursts(Kind("team", draw(MEAN), user=f"light-{n}", cap=cap), 30 * MEAN, 1)
    made.bursts(Kind("other", draw(MEAN), cap=cap), 30 * MEAN, 49)
    made.closed(Kind("bot", draw(MEAN), cap=cap), 8)
    made.closed(Kind("bot-2", draw(MEAN), cap=cap), 4)


def crowd(made: World, draw: Draw, cap: int) -> None:
    """Many keys with one or two jobs at a time."""
    think = exponential(made.random, 4 * MEAN)
    for n in range(40):
        made.closed(Kind(f"key-{n}", draw(MEAN), cap=cap), 1 + n % 2, think, delay=think())


MIXES = (bots, bursts, mixed, families, lengths, users, crowd)
SHAPES = {"even": about, "exponential": exponential}


async def play(
    redis: Redis,
    mix: Mix,
    shape: str,
    cap: int,
    seed: int,
    span: float = SPAN,
) -> list[Job]:
    """Play one mix. Returns the counted jobs."""
    made = await world(redis, seed)
    mix(made, lambda mean: SHAPES[shape](made.random, mean), cap)
    begin = made.now + WARM
    return await made.run_until_started(begin, begin + span)


async def _main(redis: Redis) -> None:
    print(f"Errors of forecasts by the actual wait, for waits above {LONG} service times")
    print(f"  (targets: median {TARGETS[0]:.0%}, p90 {TARGETS[1]:.0%}; means over seeds {SEEDS})")
    print(f"  {'mix':10} {'lengths':12} cap      n   median   p90   bias")
    for mix in MIXES:
        for shape in SHAPES:
            for cap in CAPS:
                runs = [Accuracy.of(await play(redis, mix, shape, cap, seed)) for seed in SEEDS]
                m, p = fmean(r.median for r in runs), fmean(r.p90 for r in runs)
                print(
                    f"  {mix.__name__:10} {shape:12} {cap:3} {sum(r.counted for r in runs):5}"
                    f"   {m:6.1%} {p:6.1%} {fmean(r.bias for r in runs):+6.1%}"
                    f"{'' if m <= TARGETS[0] and p <= TARGETS[1] else '  MISSED'}",
                    flush=True,
                )


def main() -> None:
    """Measure and print the result."""
    on_redis(_main)
