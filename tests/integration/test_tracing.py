"""Traces of requests: one across the queue, sent to a collector, and nothing secret in it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

import settings
from runtime import tracing
from runtime.otel import LAST_SPANS
from settings.credentials import Secret
from tests.support.collector import Collector, attributes, collecting
from tests.support.line import LASTING
from tests.support.requests import BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import Judged
from tests.support.website import serving
from wire.events import Delta, Done, Failed, Started
from wire.jobs import fingerprint
from workers.http.session import open_session
from workers.openai.connection import Connection, trace_reuse
from workers.openai.request import Request
from workers.upstream import UpstreamError

BEARER = "a-very-secret-bearer"
HEADERS = {"authorization": f"Bearer {BEARER}"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(queue=LASTING, stream=settings.Stream(grace=0.2))


@pytest.fixture
def upstream() -> Judged:
    return Judged()


@pytest.fixture
async def collector(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> AsyncIterator[Collector]:
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        tracing.start(settings.Trace(propagate=True), "front_end")
        yield collector
        await asyncio.to_thread(tracing.stop)


async def test_a_request_is_one_trace_across_the_queue(
    collector: Collector, client: Client, upstream: Judged
) -> None:
    upstream.judge = lambda _: [Started("m"), Delta("a secret answer"), Done("stop")]
    answer = await client.post(CHAT, json=BODY, headers=HEADERS | {"traceparent": PARENT})
    spans = {span.name: span for span in await collector.until(lambda spans: len(spans) >= 4)}
    assert spans.keys() == {"request", "wait", "attempt", "upstream"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}, "that of the client"
    parents = {name: span.parent_span_id.hex() for name, span in spans.items()}
    assert parents == {
        "request": "00f067aa0ba902b7",
        "wait": spans["request"].span_id.hex(),
        "attempt": spans["request"].span_id.hex(),
        "upstream": spans["attempt"].span_id.hex(),
    }
    told = attributes(spans["request"])
    assert told["gateway.job"] == attributes(spans["attempt"])["gateway.job"]
    assert told["gateway.job"] == answer.headers["x-queue-id"]
    assert told["gateway.key"] == fingerprint(BEARER)
    assert (told["http.response.status_code"], told["gateway.ending"]) == (200, "done")
    assert told["gen_ai.usage.output_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert attributes(spans["attempt"])["gateway.ending"] == "done"
    assert [event.name for event in spans["upstream"].events] == ["first_token"]
    times = [spans["request"], spans["attempt"], spans["upstream"]]
    begun, ended = (
        [span.start_time_unix_nano for span in times],
        [span.end_time_unix_nano for span in times],
    )
    assert begun == sorted(begun)
    assert ended[2] <= ended[1]
    resource = collector.resources[0]
    assert (resource["service.name"], resource["gateway.role"]) == ("pandora-line", "front_end")
    for secret in (BEARER, "a secret answer", str(BODY["messages"])):
        assert secret not in str(collector.spans)


async def test_a_failed_request_begins_a_trace_that_says_so_and_its_log_names_the_trace(
    collector: Collector,
    client: Client,
    upstream: Judged,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    upstream.judge = lambda _: [Failed("upstream_error", "broken", "broken")]
    await client.post(CHAT, json=BODY, headers=HEADERS | {"traceparent": "nonsense"})
    spans = {span.name: span for span in await collector.until(lambda spans: len(spans) >= 4)}
    assert not spans["request"].parent_span_id
    error = 2
    for name in ("request", "attempt"):
        assert (spans[name].status.code, spans[name].status.message) == (error, "broken")
    [line] = [vars(one) for one in caplog.records if one.name == "app.http.access_log"]
    assert line["trace"] == spans["request"].trace_id.hex()


async def test_each_attempt_has_a_span_that_tells_its_upstream_and_its_ending(
    collector: Collector, client: Client, upstream: Judged
) -> None:
    failed = Failed("upstream_down", "nobody there", "upstream_unreachable")
    upstream.first(1, UpstreamError(failed, passing=True))
    await client.post(CHAT, json=BODY, headers=HEADERS)
    spans = await collector.until(lambda spans: len(spans) >= 6)
    attempts = [attributes(span) for span in spans if span.name == "attempt"]
    assert [told["gateway.ending"] for told in attempts] == ["requeued", "done"]
    assert attempts[0]["gateway.reason"] == "upstream_unreachable"
    assert len({told["gateway.upstream"] for told in attempts}) == 1
    [wait] = [attributes(span) for span in spans if span.name == "wait"]
    assert wait["gateway.claimed"] is True


async def test_a_trace_goes_on_in_the_upstream_if_the_operator_wants_that(
    collector: Collector,
) -> None:
    got: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        got.append(request.headers.get("traceparent", ""))
        return web.Response()

    async def ask(port: int) -> None:
        async with open_session(traces=[trace_reuse()]) as session:
            connection = Connection(session, f"http://127.0.0.1:{port}", Secret)
            response = await connection.post("chat/completions", Request(b"{}", "m", True))
            response.close()

    async with serving(answer) as port:
        await ask(port)
        with tracing.current(tracing.root("request", PARENT)):
            await ask(port)
            with tracing.within("upstream", "client") as span:
                await ask(port)
    assert got[0] == ""
    assert got[1].startswith(f"00-{TRACE}-")
    assert got[2] == span.traceparent


async def test_a_collector_that_does_not_answer_delays_no_stop_and_fills_no_log(
    loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("runtime.otel.STOP_PATIENCE", 0.1)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    asked, over = asyncio.Event(), threading.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.to_thread(over.wait, 60)
        return web.Response()

    async with serving(hang) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}")
        tracing.start(settings.Trace(), "worker")
        for _ in range(5000):  # more than its queue takes
            tracing.root("request").end()
        await asyncio.wait_for(asked.wait(), 60)
        await asyncio.to_thread(tracing.stop)  # while the collector still has the first batch
        assert not over.is_set()
        over.set()
        # Its retries use the module `random`, which would disturb later tests of Hypothesis.
        for thread in threading.enumerate():
            if thread.name == LAST_SPANS:
                await asyncio.to_thread(thread.join, 60)
                assert not thread.is_alive()
    told = [record for record in caplog.records if record.name.startswith("opentelemetry")]
    assert len(told) <= 2
    assert all(vars(record)["event"] == "traces_not_sent" for record in told)
