"""`GET /metrics`: metrics of the whole gateway, the same from every front end.

Nothing is counted here. Events are counted in Redis (`wire/line/metrics.py`, `app/tally.py`),
and the current state is read for each scrape (`wire/line/snapshot.py`), so it is enough to scrape
one front end.

While Redis is unreachable the answer is still 200, with `gateway_redis_up 0` and without the
metrics that are unknown: Prometheus ends their series at once, and its own `up` continues to mean
that this front end answers. A 503 would throw away the one fact that is known.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import accumulate

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

from app.key_metrics import key_metrics
from app.openai.errors import Unauthorized
from app.process_metrics import process_metrics
from app.upstreams import UpstreamState
from settings import Settings
from wire.key_figures import KeyFigures
from wire.line import metrics
from wire.line.metrics import Tallies
from wire.line.snapshot import Snapshot
from wire.line.upkeep import UpkeepLine
from wire.redis.client import Redis
from wire.redis.outage import REDIS_ERRORS

PATIENCE = 2.0
"""Seconds that Redis may take to answer; Prometheus gives up after ten."""

OPEN_METRICS = "application/openmetrics-text"


class MetricsExporter:
    """Handler of `GET /metrics`.

    `read_keys` reads the figures of keys, whose jobs are those of a snapshot. Names of keys and
    hosts are shown only if a token is required.
    """

    def __init__(
        self,
        line: UpkeepLine,
        redis: Redis,
        read_keys: Callable[[Snapshot], Awaitable[list[KeyFigures]]],
        config: Settings,
        upstream_states: Callable[[], Iterable[UpstreamState]] = tuple,
    ) -> None:
        self._line = line
        self._redis = redis
        self._read_keys = read_keys
        self._max_wait = config.queue.max_wait
        self._upstream_states = upstream_states
        self._own_slots = sum(
            upstream.max_concurrency
            for upstream in config.upstreams.values()
            if upstream.kind == "pandora"
        )
        self._token = config.metrics.token

    async def __call__(self, request: Request) -> HTTPResponse:
        """Answer in the format that the scraper asks for.

        Raises:
            Unauthorized: the request has no bearer, or not the one in the settings.
        """
        header = request.headers.get("authorization", "").encode(errors="replace")
        expected = f"Bearer {self._token.reveal()}".encode()
        if self._token and not hmac.compare_digest(header, expected):
            raise Unauthorized("Send the `metrics.token` of the settings as the bearer.")
        # Not the header itself: the encoder fails on an invalid version, and repeats it.
        accepted = request.headers.get("accept", "")
        encode, content_type = choose_encoder(OPEN_METRICS if OPEN_METRICS in accepted else "")
        return raw(encode(Families(await self._collect())), content_type=content_type)

    async def _collect(self) -> Iterable[Metric]:
        try:
            async with asyncio.timeout(PATIENCE):
                tallies = await metrics.read(self._redis)
                snapshot = await self._line.snapshot()
                keys = await self._read_keys(snapshot)
                processes = await self._line.processes.list()
        except REDIS_ERRORS:
            return constant_metrics(self._slots, self._max_wait, redis_up=False)
        named = bool(self._token)
        return [
            *constant_metrics(self._slots, self._max_wait, redis_up=True),
            *state_metrics(snapshot),
            *upstream_metrics(self._upstream_states()),
            *counted_metrics(tallies),
            *key_metrics(keys, named=named),
            *process_metrics(processes, named=named),
        ]

    @property
    def _slots(self) -> int:
        return self._own_slots + sum(state.slots for state in self._upstream_states())


class Families(Collector):
    """Metric families in the form that the encoders accept."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def constant_metrics(slots: int, max_wait: float, *, redis_up: bool) -> list[Metric]:
    """Metrics that are known even while Redis is unreachable."""
    return [
        GaugeMetricFamily(
            "gateway_redis_up",
            "1 if Redis answers; if it does not, most metrics are missing.",
            redis_up,
        ),
        GaugeMetricFamily(
            "gateway_slots",
            "Maximum number of simultaneous conversations, of all upstreams.",
            slots,
        ),
        GaugeMetricFamily(
            "gateway_max_wait_seconds",
            "Longest forecast with which a request is accepted (`queue.max_wait`).",
            max_wait,
        ),
    ]


def state_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Metrics of the current state."""
    waiting = GaugeMetricFamily("gateway_waiting", "Waiting jobs.", labels=["lane"])
    running = GaugeMetricFamily("gateway_running", "Running jobs.", labels=["lane"])
    leases = GaugeMetricFamily(
        "gateway_leases", "Upstream slots in use or not yet reclaimed.", labels=["lane"]
    )
    for sort, jobs in snapshot.sorts.items():
        waiting.add_metric([sort], jobs.waiting)
        running.add_metric([sort], jobs.running)
        leases.add_metric([sort], jobs.leases)
    accounts = GaugeMetricFamily(
        "gateway_accounts",
        "Keys' own accounts that cannot be used in full, by state; accounts that keys share, by"
        " upstream and state.",
        labels=["upstream", "state"],
    )
    for state, number in snapshot.accounts.items():
        accounts.add_metric(["", state], number)
    for upstream, states in snapshot.shared.items():
        for state, number in states.items():
            accounts.add_metric([upstream, state], number)
    workers = GaugeMetricFamily(
        "gateway_workers", "Live workers with the same secret.", snapshot.workers
    )
    circuit = GaugeMetricFamily(
        "gateway_circuit_open",
        "1 while the upstream fails for everyone: new requests are refused, or one job tests it.",
        snapshot.open_for is not None,
    )
    paused = GaugeMetricFamily(
        "gateway_paused",
        "Pauses that operators have set: of the intake of all jobs, or of keys, upstreams and"
        " accounts.",
        labels=["what"],
    )
    for what, number in snapshot.paused.items():
        paused.add_metric([what], number)
    yield from (waiting, running, leases, accounts, workers, circuit, paused)


def upstream_metrics(states: Iterable[UpstreamState]) -> Iterator[Metric]:
    """Metrics of the shared upstreams."""
    described = GaugeMetricFamily(
        "gateway_upstream_described",
        "1 if a worker has described the upstream lately.",
        labels=["upstream"],
    )
    circuit = GaugeMetricFamily(
        "gateway_upstream_circuit_open",
        "1 while the upstream fails for everyone: it gets no job, or one that tests it.",
        labels=["upstream"],
    )
    refuses = GaugeMetricFamily(
        "gateway_upstream_credential_refused",
        "1 while the upstream refuses the credential of the gateway.",
        labels=["upstream"],
    )
    for state in states:
        described.add_metric([state.name], state.is_described)
        circuit.add_metric([state.name], state.open_for is not None)
        refuses.add_metric([state.name], state.refuses_us)
    yield from (family for family in (described, circuit, refuses) if family.samples)


def counted_metrics(tallies: Tallies) -> Iterator[Metric]:
    """Metrics that are counted in Redis."""
    for counter in metrics.COUNTERS:
        family = CounterMetricFamily(counter.name, counter.help, labels=list(counter.labels))
        for values, number in tallies.counters[counter.name].items():
            family.add_metric(values, number)
        yield family
    for histogram in metrics.HISTOGRAMS:
        name, labels = histogram.name, list(histogram.labels)
        shape = HistogramMetricFamily(name, histogram.help, labels=labels)
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        for values, observed in tallies.histograms[histogram.name].items():
            buckets = list(zip(bounds, accumulate(observed.buckets), strict=True))
            shape.add_metric(values, buckets, observed.sum)
        yield shape
