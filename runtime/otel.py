"""Traces by the SDK of OpenTelemetry, which is an optional dependency. See `runtime/tracing.py`.

Its standard variables hold: endpoint, headers, sampler, service name, limits. A thread sends what
ended spans leave in a bounded queue; what does not fit is dropped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as Recorded
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runtime.tracing import Kind, Span, Tracer

STOP_PATIENCE = 2.0
"""Seconds that the end of a process waits until the last spans are sent."""

LAST_SPANS = "last-spans"
"""Name of the thread that sends them."""

REPORT_INTERVAL = 60.0
"""Seconds between two records that spans could not be sent."""

_SDK_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)

_CONVENTIONAL = {
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
"""Names of attributes by the semantic conventions, by those of the fields in our log."""

_propagator = TraceContextTextMapPropagator()


class OtelSpan(Span):
    """A span that is recorded, if its trace is sampled."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        it = recorded.get_span_context()
        self.traceparent = f"00-{it.trace_id:032x}-{it.span_id:016x}-{int(it.trace_flags):02x}"

    def note(self, attributes: Mapping[str, object]) -> None:
        """See `Span`."""
        for name, value in attributes.items():
            known = value if isinstance(value, str | int | float) else str(value)
            self._recorded.set_attribute(_CONVENTIONAL.get(name, f"gateway.{name}"), known)

    def mark(self, event: str, at: float) -> None:
        """See `Span`."""
        self._recorded.add_event(event, timestamp=_nanoseconds(at))

    def fail(self, reason: str) -> None:
        """See `Span`."""
        self._recorded.set_status(Status(StatusCode.ERROR, reason))

    def end(self, at: float | None = None) -> None:
        """See `Span`."""
        self._recorded.end(_nanoseconds(at))


class OtelTracer(Tracer):
    """Sends spans to the collector that the environment names."""

    def __init__(self, role: str, *, propagates: bool) -> None:
        self.propagates = propagates
        named = {"service.instance.id": f"{role}-{os.getpid()}", "gateway.role": role}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            named["service.name"] = "pandora-line"
        for name in _SDK_LOGGERS:
            logging.getLogger(name).addFilter(_Reports())
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pandora-line")

    def begin(self, name: str, parent: str, kind: Kind, at: float | None) -> Span:
        """See `Tracer`."""
        context = _propagator.extract({"traceparent": parent})
        sort = SpanKind[kind.upper()]
        span = self._tracer.start_span(name, context, sort, start_time=_nanoseconds(at))
        return OtelSpan(span)

    def stop(self) -> None:
        """See `Tracer`. A collector that does not answer costs the last spans, not the stop."""
        sending = threading.Thread(target=self._provider.shutdown, name=LAST_SPANS, daemon=True)
        sending.start()
        sending.join(STOP_PATIENCE)


class _Reports(logging.Filter):
    """Passes one record a minute about spans that could not be sent; it has the reason."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for a record that is logged."""
        if record.levelno < logging.WARNING or time.monotonic() < self._silent_until:
            return False
        self._silent_until = time.monotonic() + REPORT_INTERVAL
        record.event = "traces_not_sent"
        return True


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else round(at * 1e9)
