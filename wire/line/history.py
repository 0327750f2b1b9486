"""History of the whole gateway: its figures of each minute of the last 24 hours, in Redis.

One process records each minute (`wire/upkeep/history.py`), by Redis' clock. A minute that none
recorded is missing: it is not zero. The counters are those of the metrics (`wire/line/metrics.py`),
less what they were at the recording before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from wire.line import keys, metrics
from wire.line.metrics import Distribution, Tallies
from wire.line.scripts import Scripts
from wire.line.snapshot import Snapshot
from wire.redis.client import Redis

MINUTES = 1440
"""Minutes that are kept: a day."""

_BOUNDS = {histogram.name: histogram.bounds for histogram in metrics.HISTOGRAMS}
WAITS = _BOUNDS["gateway_wait_seconds"]
"""Upper bounds, in seconds, of the buckets of waits; one more bucket holds the longer ones."""
FIRST_TOKENS = _BOUNDS["gateway_first_token_seconds"]
"""The same of the times from a job's slot to its first event."""


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Numbers of jobs, refusals by reason, and tokens.

    `waits` and `first_tokens` are numbers of jobs by bucket, each of its bucket alone.
    """

    accepted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    refusals: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    waits: tuple[int, ...] = ()
    first_tokens: tuple[int, ...] = ()


_NUMBERS = ("accepted", "done", "failed", "cancelled", "input_tokens", "output_tokens")


class Minute(Counts, frozen=True, kw_only=True, omit_defaults=True):
    """One minute: jobs and slots at its end, and what was counted in the `seconds` before.

    `at` is the Unix time of its end, a multiple of 60. `seconds` are more than 60 if minutes before
    this one were not recorded.
    """

    at: int
    seconds: int = 60
    waiting: int = 0
    running: int = 0
    slots: int = 0


class _Record(msgspec.Struct, frozen=True):
    """All counters at the last recording, and the minute when that was."""

    minute: int
    counts: Counts


class Turn(NamedTuple):
    """Answer to a process that wants to record the present minute.

    `minute` is the number of minutes since 1970, 0 if another process records it; `left` the number
    of seconds until the next one; `before` describes the last recording, for `History.record`.
    """

    minute: int
    left: float
    before: bytes


_decoder = msgspec.msgpack.Decoder(Minute)


async def read_history(redis: Redis, minutes: int = MINUTES) -> list[Minute]:
    """Read the last minutes, the oldest first, in one call of at most 1,440 fields.

    Raises:
        redis.RedisError, OSError: Redis is unreachable (`REDIS_ERRORS`).
    """
    seconds, _ = await redis.time()
    now = int(seconds) // 60
    wanted = range(now - min(minutes, MINUTES) + 1, now + 1)
    found = await redis.hmget(keys.history, [_field(minute) for minute in wanted])  # type: ignore[misc]  # redis-py: sync or async
    pairs = zip(wanted, found, strict=True)
    return [minute for at, value in pairs if (minute := _decode(value)) and minute.at == at * 60]


def quantile(q: float, buckets: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Value below which a fraction `q` of the observed ones is; None if there are none.

    As Prometheus' `histogram_quantile`: values are taken to be spread evenly over their bucket, and
    those above the last bound to be equal to it.
    """
    wanted, below, lower = q * sum(buckets), 0, 0.0
    for number, upper in zip(buckets, bounds, strict=False):
        if number and below + number >= wanted:
            return lower + (upper - lower) * (wanted - below) / number
        below, lower = below + number, upper
    return lower if sum(buckets) else None


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts, for example of an hour's minutes."""
    summed = tuple(counts)
    refusals: Counter[str] = Counter()
    for each in summed:
        refusals.update(each.refusals)
    return Counts(
        **{name: sum(getattr(each, name) for each in summed) for name in _NUMBERS},
        refusals=dict(sorted(refusals.items())),
        waits=_sums(each.waits for each in summed),
        first_tokens=_sums(each.first_tokens for each in summed),
    )


def _sums(buckets: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Sum up buckets; a release before may have had fewer."""
    return tuple(map(sum, zip_longest(*buckets, fillvalue=0)))


class History:
    """The history as processes record it."""

    def __init__(self, scripts: Scripts) -> None:
        self._redis = scripts.redis
        self._run = scripts.run

    async def take_turn(self) -> Turn:
        """Take the recording of the present minute, unless another process has."""
        minute, left, before = await self._run("take_minute")
        return Turn(minute, left / 1000, before)

    async def record(self, turn: Turn, snapshot: Snapshot) -> None:
        """Record the minute that was taken, with the counters of now."""
        counts = counts_of(await metrics.read(self._redis))
        minute = next_minute(turn, counts, snapshot)
        ring = (_field(turn.minute), msgspec.msgpack.encode(minute)) if minute else ()
        await self._run("record_minute", record_of(turn.minute, counts), *ring)


def record_of(minute: int, counts: Counts) -> bytes:
    """Encode all counters at a recording, for the next one."""
    return msgspec.msgpack.encode(_Record(minute, counts))


def next_minute(turn: Turn, counts: Counts, snapshot: Snapshot) -> Minute | None:
    """Figures of a minute; None if the counters of the last recording are not known."""
    try:
        before = msgspec.msgpack.decode(turn.before, type=_Record)
    except msgspec.MsgspecError:  # there is none, or it is of another release
        return None
    gained = _gained(counts, before.counts)
    sorts = snapshot.sorts.values()
    return Minute(
        **msgspec.structs.asdict(gained),
        at=turn.minute * 60,
        seconds=max(1, turn.minute - before.minute) * 60,
        waiting=sum(jobs.waiting for jobs in sorts),
        running=sum(jobs.running for jobs in sorts),
        slots=snapshot.slots,
    )


def counts_of(tallies: Tallies) -> Counts:
    """Sum up the counters of all lanes."""
    endings = _by_last_label(tallies, "gateway_endings_total")
    refusals = _by_last_label(tallies, "gateway_refusals_total")
    tokens = _by_last_label(tallies, "gateway_usage_tokens_total")
    return Counts(
        accepted=sum(tallies.counters["gateway_jobs_total"].values()),
        done=endings["done"],
        failed=endings.total() - endings["done"] - endings["cancelled"],
        cancelled=endings["cancelled"],
        refusals={reason: number for reason, number in refusals.items() if number},
        input_tokens=tokens["input"],
        output_tokens=tokens["output"],
        waits=_buckets(tallies.histograms["gateway_wait_seconds"]),
        first_tokens=_buckets(tallies.histograms["gateway_first_token_seconds"]),
    )


def _by_last_label(tallies: Tallies, name: str) -> Counter[str]:
    summed: Counter[str] = Counter()
    for labels, number in tallies.counters[name].items():
        summed[labels[-1]] += number
    return summed


def _buckets(of_lanes: Mapping[tuple[str, ...], Distribution]) -> tuple[int, ...]:
    return _sums(each.buckets for each in of_lanes.values())


def _gained(now: Counts, before: Counts) -> Counts:
    """Return what was counted between two recordings."""
    refusals = {
        reason: gained
        for reason, number in now.refusals.items()
        if (gained := _gain(number, before.refusals.get(reason, 0)))
    }
    return Counts(
        **{name: _gain(getattr(now, name), getattr(before, name)) for name in _NUMBERS},
        refusals=refusals,
        waits=_gains(now.waits, before.waits),
        first_tokens=_gains(now.first_tokens, before.first_tokens),
    )


def _gain(now: int, before: int) -> int:
    """Counters of a Redis that lost them begin at zero again."""
    return now - before if now >= before else now


def _gains(now: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(_gain(*pair) for pair in zip_longest(now, before, fillvalue=0))


def _field(minute: int) -> str:
    return f"minute {minute % MINUTES}"


def _decode(value: bytes | None) -> Minute | None:
    """Decode a minute; None if there is none, or only another release can."""
    try:
        return _decoder.decode(value) if value else None
    except msgspec.MsgspecError:
        return None
