"""The log of requests: one line for each, at its ending, also for one that failed.

It contains no query string, body or bearer. A key is named by its fingerprint, as in
`queue.weights`, and, if this gateway has issued it, by its name; an
operator by name, too.
"""

from __future__ import annotations

import logging
import secrets
import time
from http import HTTPStatus
from typing import Literal

import msgspec
from sanic import Request
from sanic.response import BaseHTTPResponse

from app.openai.errors import ApiError, InternalError
from runtime.tracing import NOTHING
from wire.jobs import fingerprint

logger = logging.getLogger(__name__)

LONGEST_PATH, LONGEST_NAME = 200, 100
"""Characters of a path, and of the name of a model or lane, that are logged."""

DISCONNECTED = 499
"""Status in the log if the client disconnected before there was one, as nginx calls it."""

PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that are asked all the time: logged at the level DEBUG."""

Ending = Literal[
    "done",
    "refused",  # before it was in line
    "failed",
    "cancelled",  # by its client, which disconnected, or by others
]

_EVENTS: dict[Ending, tuple[str, str]] = {
    "done": ("request_served", "a request was served"),
    "refused": ("request_failed", "a request was refused"),
    "failed": ("request_failed", "a request failed"),
    "cancelled": ("request_failed", "a request was cancelled"),
}
_CUT = "request_cut", "a client disconnected"


class JobFigures(msgspec.Struct, frozen=True):
    """Measures of a job as its front end saw it; None as far as they are unknown.

    `wait` is the time in seconds from its admission to the last claim of a slot, `began` the time
    of the first event by the monotonic clock. `tokens` are those of the request and of the answer.
    """

    wait: float | None = None
    began: float | None = None
    tokens: tuple[int, int] | None = None


class Entry:
    """One request as the log describes it. Headers may be gone when it ends."""

    __slots__ = (
        *(
            "id",
            "job",
            "key",
            "key_name",
            "lane",
            "model",
            "operator",
            "sent",
            "span",
            "started",
            "status",
        ),
        *("_figures", "code", "ending", "failed_with", "is_cut", "is_served"),
    )

    def __init__(self, given: str) -> None:
        self.id = f"req_{secrets.token_hex(12)}"
        bearer = given.rpartition(" ")[2].strip()
        self.key = fingerprint(bearer) if bearer else ""
        self.key_name = ""
        self.job = ""
        self.operator = ""
        self.model = ""
        """The client's name for it."""
        self.lane = ""
        self.status = DISCONNECTED
        self.sent = 0
        """Bytes of the answer's body."""
        self.started = time.monotonic()
        self.span = NOTHING
        """Its span in the trace."""
        self.is_cut = False
        """True if its client disconnected before its ending."""
        self.is_served = False
        """True once it is parsed, and so will be logged at its ending."""
        self.ending: Ending = "done"
        self.code = ""
        """Code of the failure, if there was one, or else its field or its type."""
        self.failed_with = 0
        """Status of the failure, which is 200 for its client if it came within a stream."""
        self._figures: list[JobFigures] = []

    def answer(self, response: BaseHTTPResponse) -> None:
        """Note the answer that is about to be sent. What is streamed is added to `sent` later."""
        if self.is_cut:
            return
        self.status = response.status
        self.job = response.headers.get("x-queue-id", self.job)
        self.sent = len(getattr(response, "body", None) or b"")

    def sign(self, operator: str) -> None:
        """Note the operator who sent the request; the bearer was not a client's key."""
        self.operator, self.key = operator, ""

    def fail(self, failure: ApiError) -> None:
        """Note the reason for which it failed; also within a stream, whose status is 200."""
        if self.failed_with:
            return
        self.job = failure.job or self.job
        self.ending = _ending(failure, is_job=bool(self.job))
        self.failed_with = failure.http_status
        self.code = failure.code or failure.param or failure.error_type

    def add(self, figures: JobFigures) -> None:
        """Add the measures of a job, at its ending."""
        self._figures.append(figures)

    @property
    def names(self) -> dict[str, object]:
        """Names by which the request is found in the logs."""
        names = {
            "request": self.id,
            "job": self.job,
            "key": self.key,
            "key_name": self.key_name,
            "operator": _printable(self.operator, LONGEST_NAME),
            "model": _printable(self.model, LONGEST_NAME),
            "lane": _printable(self.lane, LONGEST_NAME),
            "trace": self.span.trace,
        }
        return {name: value for name, value in names.items() if value}

    @property
    def figures(self) -> dict[str, float]:
        """Measures of its jobs: of several, the first one's times and the sum of the tokens."""
        waits = [one.wait for one in self._figures if one.wait is not None]
        began = [one.began for one in self._figures if one.began is not None]
        tokens = [one.tokens for one in self._figures if one.tokens is not None]
        figures: dict[str, float] = {}
        if waits:
            figures["wait"] = round(waits[0], 3)
        if began:
            figures["first_token"] = round(began[0] - self.started, 3)
        if tokens:
            figures["input_tokens"], figures["output_tokens"] = map(sum, zip(*tokens, strict=True))
        return figures


def entry_of(request: Request) -> Entry:
    """Return the entry of a request, which begins with the first call."""
    if not hasattr(request.ctx, "entry"):
        headers = request.headers
        given = headers.get("authorization", "") or headers.get("x-api-key", "")
        request.ctx.entry = Entry(given)
    entry: Entry = request.ctx.entry
    return entry


def log_request(request: Request, *, failures_only: bool) -> None:
    """Log a request that has ended, and end its span."""
    entry = entry_of(request)
    is_cut = entry.is_cut and not entry.failed_with
    event, sentence = _CUT if is_cut else _EVENTS[entry.ending]
    is_probe = request.path in PROBES and not entry.failed_with
    fields = {
        "event": event,
        "method": request.method,
        "path": _printable(request.path, LONGEST_PATH),
        "ending": "cancelled" if is_cut else entry.ending,
        "status": _status(entry),
        "code": entry.code,
        "ms": round((time.monotonic() - entry.started) * 1000),
        **entry.figures,
        "bytes": entry.sent,
        **entry.names,
    }
    if not entry.code:
        del fields["code"]
    if entry.failed_with or not failures_only:
        logger.log(logging.DEBUG if is_probe else logging.INFO, sentence, extra=fields)
    entry.span.note(fields)
    if entry.failed_with >= HTTPStatus.INTERNAL_SERVER_ERROR:
        entry.span.fail(entry.code)
    entry.span.end()


def _ending(failure: ApiError, *, is_job: bool) -> Ending:
    if failure.is_cancellation:
        return "cancelled"
    return "failed" if is_job or isinstance(failure, InternalError) else "refused"


def _status(entry: Entry) -> int:
    """Return the status that was sent, or that of a failure which came later, or was not sent."""
    late = entry.status in (200, DISCONNECTED)
    return entry.failed_with if entry.failed_with and late else entry.status


def log_failure(request: Request | None, failure: ApiError) -> None:
    """Note the failure of a request for the line at its ending. One that could not even be parsed
    has no other ending, so it is logged at once."""
    if request is not None and entry_of(request).is_served:
        entry_of(request).fail(failure)
        return
    fields = {
        "event": "request_failed",
        "request": "unparsed",
        "ending": "refused",
        "status": failure.http_status,
        "code": failure.code or failure.param,
    }
    logger.info("a request could not be read", extra=fields)


def _printable(text: str, most: int) -> str:
    """Return the beginning of a client's text, with escapes in place of control characters."""
    text = text[:most]
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
