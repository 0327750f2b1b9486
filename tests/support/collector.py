"""A collector of OpenTelemetry, which receives spans by OTLP over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.website import serving


class Collector:
    """Spans that have been received. `url` is its address for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Accept one batch."""
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for group in sent.resource_spans:
            named = group.resource.attributes
            self.resources.append({one.key: one.value.string_value for one in named})
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def until(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """Return all spans as soon as they are enough."""
        async with asyncio.timeout(60):
            while not enough(self.spans):
                await asyncio.sleep(0.02)
        return self.spans


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on loopback."""
    collector = Collector()
    async with serving(collector.receive) as port:
        collector.url = f"http://127.0.0.1:{port}"
        yield collector


def attributes(span: Span) -> dict[str, object]:
    """Return the attributes of a span."""
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes
    }
