"""`GET /metrics`: the whole gateway's numbers, whichever front end is asked.

Nothing is counted in this process. What happens to jobs is counted in Redis
(`wire/line/metrics.py`), how things stand is looked up for each scrape (`wire/line/snapshot.py`),
so all front ends show the same and one of them is enough to scrape.

While Redis is away the answer is still 200, with `gateway_redis_up 0` and without the numbers that
are not known: Prometheus lets their series end at once, and its own `up` keeps meaning that this
front end answers. A 503 would throw away the one thing that can be told.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate

from arq.connections import ArqRedis
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sanic import HTTPResponse, Request
from sanic.response import raw

from app.openai.errors import Unauthorized
from settings import Settings
from wire.line import metrics
from wire.line.metrics import Tallies
from wire.line.snapshot import Snapshot, TakeSnapshot
from wire.redis.outage import REDIS_ERRORS

PATIENCE = 2.0
"""Seconds that Redis may take to tell its numbers; Prometheus gives up after ten."""

OPEN_METRICS = "application/openmetrics-text"


class Metrics:
    """The handler of `GET /metrics`."""

    def __init__(self, redis: ArqRedis, take_snapshot: TakeSnapshot, config: Settings) -> None:
        self._redis = redis
        self._take_snapshot = take_snapshot
        self._slots = config.upstream.max_concurrency
        self._token = config.metrics.token

    async def __call__(self, request: Request) -> HTTPResponse:
        """Answer in the format that the scraper asks for.

        Raises:
            Unauthorized: the settings want a token, and this is another one or none.
        """
        given = request.headers.get("authorization", "").encode(errors="replace")
        expected = f"Bearer {self._token.reveal()}".encode()
        if self._token and not hmac.compare_digest(given, expected):
            raise Unauthorized("Send `Authorization: Bearer <metrics.token of the settings>`.")
        # Not the header itself: the encoder fails over a version that is no number, and repeats it.
        accepted = request.headers.get("accept", "")
        encode, content_type = choose_encoder(OPEN_METRICS if OPEN_METRICS in accepted else "")
        return raw(encode(Families(await self._look())), content_type=content_type)

    async def _look(self) -> Iterable[Metric]:
        with suppress(*REDIS_ERRORS):
            async with asyncio.timeout(PATIENCE):
                tallies = await metrics.read(self._redis)
                snapshot = await self._take_snapshot()
            return [*always(self._slots, redis_up=True), *standing(snapshot), *counted(tallies)]
        return always(self._slots, redis_up=False)


class Families(Collector):
    """What the encoders take."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def always(slots: int, *, redis_up: bool) -> list[Metric]:
    """What can be told even while Redis is away."""
    return [
        GaugeMetricFamily(
            "gateway_redis_up", "Whether Redis answers; if not, most metrics are missing.", redis_up
        ),
        GaugeMetricFamily(
            "gateway_slots", "Conversations that may be held at once (max_concurrency).", slots
        ),
    ]


def standing(snapshot: Snapshot) -> Iterator[Metric]:
    """How things stand at this moment."""
    waiting = GaugeMetricFamily("gateway_waiting", "Jobs that wait.", labels=["lane"])
    running = GaugeMetricFamily("gateway_running", "Jobs that run.", labels=["lane"])
    leases = GaugeMetricFamily(
        "gateway_leases", "Upstream slots in use, or not yet taken from the dead.", labels=["lane"]
    )
    for lane, standing in snapshot.lanes.items():
        waiting.add_metric([lane], standing.waiting)
        running.add_metric([lane], standing.running)
        leases.add_metric([lane], standing.leases)
    accounts = GaugeMetricFamily(
        "gateway_accounts",
        "Accounts that may not be used for now, by the reason.",
        labels=["state"],
    )
    for state, number in snapshot.accounts.items():
        accounts.add_metric([state], number)
    workers = GaugeMetricFamily(
        "gateway_workers", "Live workers with the same secret.", snapshot.workers
    )
    circuit = GaugeMetricFamily(
        "gateway_circuit_open",
        "Whether the upstream failed for everyone and is left alone, or tried with one job.",
        snapshot.open_for is not None,
    )
    yield from (waiting, running, leases, accounts, workers, circuit)


def counted(tallies: Tallies) -> Iterator[Metric]:
    """What has been counted since Redis knows it."""
    for counter in metrics.COUNTERS:
        shown = CounterMetricFamily(counter.name, counter.help, labels=list(counter.labels))
        for values, number in tallies.counters[counter.name].items():
            shown.add_metric(values, number)
        yield shown
    for histogram in metrics.HISTOGRAMS:
        drawn = HistogramMetricFamily(histogram.name, histogram.help, labels=list(histogram.labels))
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        for values, observed in tallies.histograms[histogram.name].items():
            buckets = list(zip(bounds, accumulate(observed.buckets), strict=True))
            drawn.add_metric(values, buckets, observed.sum)
        yield drawn
