"""Traces of requests, by OpenTelemetry: one from a request to its ending, across the queue.

They are on if a standard variable names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`) and the
packages of requirements-otel.lock are installed. While they are off, nothing of OpenTelemetry is
imported, and each span is `NOTHING`. There is no work for a token in either case.

The spans of a request are `request` (its front end), and below it `wait` (the line) and an
`attempt` for each claim by a worker, with an `upstream` for each call. A span has the fields of the
log, so there is no bearer, prompt or answer in it. Its parent is named by a `traceparent`, as in
HTTP; a job brings that of its request.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Literal

import settings

logger = logging.getLogger(__name__)

Kind = Literal["internal", "server", "consumer", "client"]
Attribute = str | int | float | bool

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span:
    """A span that is not recorded."""

    traceparent = ""
    """Its name, for those that begin below it; "" if it is not recorded."""

    @property
    def trace(self) -> str:
        """Id of its trace, as collectors show it."""
        return self.traceparent[3:35]

    def note(self, attributes: Mapping[str, object]) -> None:
        """Add attributes; the names of ours begin with `gateway.` in the trace."""

    def mark(self, event: str, at: float) -> None:
        """Add an event with its Unix time."""

    def fail(self, reason: str) -> None:
        """Mark it as failed, with a code."""

    def end(self, at: float | None = None) -> None:
        """End it, now or at a Unix time."""


NOTHING = Span()


class Tracer:
    """Makes spans: none, as long as traces are off."""

    propagates = False

    def begin(self, name: str, parent: str, kind: Kind, at: float | None) -> Span:
        """Begin a span below another one, "" for none, now or at a Unix time."""
        return NOTHING

    def stop(self) -> None:
        """Send what is recorded, within a short time."""


_tracer = Tracer()
_current: ContextVar[Span] = ContextVar("span", default=NOTHING)


def start(config: settings.Trace, role: str) -> None:
    """Turn traces on for this process, if the environment says so."""
    global _tracer
    if not is_wanted(os.environ):
        return
    try:
        otel = import_module("runtime.otel")
    except ImportError:
        logger.warning(
            "no traces are sent: install the packages in requirements-otel.lock",
            extra={"event": "traces_not_installed"},
        )
        return
    _tracer = otel.OtelTracer(role, propagates=config.propagate)
    logger.info("traces are sent to a collector", extra={"event": "traces_on"})


def stop() -> None:
    """Send what is recorded, within a short time, at the end of a process."""
    global _tracer
    tracer, _tracer = _tracer, Tracer()
    tracer.stop()


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return True if the standard variables name a collector, and do not turn traces off."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return (
        not off
        and environ.get("OTEL_TRACES_EXPORTER") != "none"
        and any(environ.get(name) for name in ENDPOINTS)
    )


def root(name: str, parent: str = "", kind: Kind = "server") -> Span:
    """Begin a trace, or continue the one of a client's `traceparent`."""
    return _tracer.begin(name, parent, kind, None)


def child(name: str, parent: str, kind: Kind = "internal", at: float | None = None) -> Span:
    """Begin a span below another one, now or at a Unix time; none below `NOTHING`."""
    return _tracer.begin(name, parent, kind, at) if parent else NOTHING


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Make a span the current one of this task."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def within(name: str, kind: Kind) -> Iterator[Span]:
    """Begin a span below the current one, which is the current one until the end of the context."""
    span = child(name, _current.get().traceparent, kind)
    try:
        with current(span):
            yield span
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


def headers() -> dict[str, str]:
    """Headers that continue the trace in a request to an upstream, if the operator wants that."""
    traceparent = _current.get().traceparent
    return {"traceparent": traceparent} if traceparent and _tracer.propagates else {}
