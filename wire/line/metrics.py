"""Counters and histograms of the whole gateway: their declaration, and their reading from Redis.

The scripts count each event in the call that causes it (`scripts/modules/metrics.lua`) and by
Redis' clock: once, whichever process calls, even if it dies afterwards. Front ends count only the
refusals that never get as far as the line (`app/tally.py`).

Labels hold words from the closed lists below, and a word that is not in its list is read as
`other`. So neither a key nor a name that the upstream invents can become a label.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from typing import Final, NamedTuple, get_args

import msgspec

from wire.events import Fault
from wire.jobs import Family, Sort
from wire.line import keys
from wire.line.admission import RefusalReason
from wire.redis.client import Redis

OTHER = "other"

Labels = dict[str, tuple[str, ...]]
"""The words that each label of a metric may hold."""

LANE: Final[Labels] = {"lane": get_args(Sort)}
FAMILY: Final[Labels] = {"family": get_args(Family)}


class Sample(NamedTuple):
    """Name of a metric, and its labels with their values, sorted by name."""

    name: str
    labels: tuple[tuple[str, str], ...]


class Counter(msgspec.Struct, frozen=True):
    """A number that only grows."""

    name: str
    help: str
    labels: Labels


class Histogram(msgspec.Struct, frozen=True):
    """Numbers of values up to each of the bounds, which ascend; the last is infinity."""

    name: str
    help: str
    labels: Labels
    bounds: tuple[float, ...]


UNFAULTED = ("front_end_lost", "worker_lost", "cancelled_by_operator")
"""Words for endings that have none of the faults, or are counted apart."""

COUNTERS = (
    Counter("gateway_jobs_total", "Jobs that were accepted into the line.", LANE),
    Counter(
        "gateway_refusals_total",
        "Requests that were refused instead of being put in line.",
        LANE | {"reason": get_args(RefusalReason)},
    ),
    Counter("gateway_attempts_total", "Attempts that got a slot.", LANE),
    Counter(
        "gateway_retries_total",
        "Attempts after which the job went back to its place, nothing of it having been published.",
        LANE
        | {
            "reason": (
                "account_busy",
                "account_refused",
                "handed_back",
                "worker_lost",
                "model_capped",
                "upstream_failed",
            )
        },
    ),
    Counter(
        "gateway_endings_total",
        "Endings of jobs; every accepted job has one.",
        LANE | {"reason": ("done", *get_args(Fault), *UNFAULTED)},
    ),
    Counter(
        "gateway_usage_tokens_total",
        "Tokens of requests and of their answers, counted when these end.",
        {"direction": ("input", "output")},
    ),
    Counter(
        "gateway_repairs_total",
        "Things the line put right after a crash or an outage.",
        {
            "what": (
                "lease_ended",  # a job was taken from a worker whose lease expired
                "record_lost",  # an entry was removed whose job is not in Redis any more
                "front_end_lost",  # a job was cancelled whose front end died
                "resubmitted",  # a job that Redis had lost was enqueued again
                "lease_of_nobody",  # the reconciler: a lease without a running job
                "lease_lost",  # a running job without a lease
                "seat_of_nobody",  # a seat without a job
                "seat_lost",  # a job without the seat it holds
                "place_of_nobody",  # a place in the line without a job
                "place_lost",  # a waiting job without a place
                "miscounted",  # a wrong count
                "disturbance",  # Redis was restarted, or no process had called it for a while
            )
        },
    ),
    Counter("gateway_wrong_keys_total", "Requests with a wrong API key, or without one.", {}),
    Counter(
        "gateway_late_refusals_total",
        "Refusals that were answered late, as their key or address keeps coming.",
        {"by": ("key", "address")},
    ),
)

HISTOGRAMS = (
    Histogram(
        "gateway_wait_seconds",
        "From a job's acceptance to its first slot.",
        LANE,
        (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
    ),
    Histogram(
        "gateway_first_token_seconds",
        "From an attempt's slot to its first event.",
        LANE,
        (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120),
    ),
    Histogram(
        "gateway_service_seconds",
        "From the last attempt's slot to the job's ending.",
        LANE | FAMILY,
        (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900),
    ),
    Histogram(
        "gateway_eta_error_seconds",
        "Difference between the wait that was predicted at acceptance and the real one.",
        LANE,
        (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300),
    ),
    Histogram(
        "gateway_eta_error_ratio",
        "The same as a part of the real wait, for waits of 5 seconds and more.",
        LANE,
        (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5),
    ),
)


class Distribution(msgspec.Struct):
    """Observed values: their number in each bucket alone, and their sum.

    There is one bucket for each bound, and one for values above them all.
    """

    buckets: list[int]
    sum: float = 0.0


class Tallies(msgspec.Struct, frozen=True):
    """All numbers, by metric and then by the values of its labels, in the order of its labels.

    Samples that were never counted are zero, so that the first count is seen as an increase.
    """

    counters: dict[str, dict[tuple[str, ...], int]]
    histograms: dict[str, dict[tuple[str, ...], Distribution]]


async def read(redis: Redis) -> Tallies:
    """Read all numbers.

    Raises:
        redis.RedisError: Redis is unreachable.
    """
    return tally(await redis.hgetall(keys.metrics))  # type: ignore[misc]  # redis-py: sync or async


def tally(stored: Mapping[bytes, bytes]) -> Tallies:
    """Sort the fields of the hash, except those that only another version knows."""
    samples: _Samples = defaultdict(list)
    for field, value in stored.items():
        name, _, labels = field.decode().partition("{")
        samples[name].append((dict(re.findall(r'(\w+)="([^"]*)"', labels)), value))
    return Tallies(
        {counter.name: _counts(counter, samples) for counter in COUNTERS},
        {histogram.name: _distributions(histogram, samples) for histogram in HISTOGRAMS},
    )


_Samples = defaultdict[str, list[tuple[dict[str, str], bytes]]]


def _counts(counter: Counter, samples: _Samples) -> dict[tuple[str, ...], int]:
    found = defaultdict(int, dict.fromkeys(_all(counter.labels), 0))
    for labels, value in samples[counter.name]:
        found[_key(labels, counter.labels)] += int(value)
    return dict(found)


def _distributions(histogram: Histogram, samples: _Samples) -> dict[tuple[str, ...], Distribution]:
    def empty() -> Distribution:
        return Distribution([0] * (len(histogram.bounds) + 1))

    found = defaultdict(empty, {key: empty() for key in _all(histogram.labels)})
    for labels, value in samples[f"{histogram.name}_bucket"]:
        # Values counted under other bounds belong to the next higher one of ours.
        bucket = bisect_left(histogram.bounds, float(labels["le"]))
        found[_key(labels, histogram.labels)].buckets[bucket] += int(value)
    for labels, value in samples[f"{histogram.name}_sum"]:
        found[_key(labels, histogram.labels)].sum += float(value)
    return dict(found)


def _all(labels: Labels) -> list[tuple[str, ...]]:
    return list(product(*labels.values()))


def _key(found: Mapping[str, str], labels: Labels) -> tuple[str, ...]:
    return tuple(
        value if (value := found.get(name, OTHER)) in words else OTHER
        for name, words in labels.items()
    )
