"""Metrics of keys, with the name of the key as a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wire.key_figures import GROUPS, KeyFigures


def key_metrics(keys: Iterable[KeyFigures], *, named: bool) -> Iterator[Metric]:
    """Metrics of all keys; with a beginning of their ids instead of their names, unless `named`."""
    waiting = GaugeMetricFamily(
        "gateway_key_waiting", "Waiting jobs of a gateway key.", labels=["key"]
    )
    running = GaugeMetricFamily(
        "gateway_key_running", "Running jobs of a gateway key.", labels=["key"]
    )
    requests = CounterMetricFamily(
        "gateway_key_requests", "Accepted requests of a gateway key.", labels=["key"]
    )
    tokens = CounterMetricFamily(
        "gateway_key_tokens",
        "Tokens of the requests of a gateway key and of their answers, counted when these end.",
        labels=["key", "direction"],
    )
    for figures in keys:
        label = figures.name if named or figures.id in GROUPS else figures.id[:8]
        waiting.add_metric([label], figures.waiting)
        running.add_metric([label], figures.running)
        requests.add_metric([label], figures.requests)
        tokens.add_metric([label, "input"], figures.input_tokens)
        tokens.add_metric([label, "output"], figures.output_tokens)
    yield from (waiting, running, requests, tokens)
