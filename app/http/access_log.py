"""The log of requests: a line for each that was served, and a line for each that failed.

They contain no query string, body or bearer. A key is named by its fingerprint, as in
`queue.weights`, and an operator by name.
"""

from __future__ import annotations

import logging
import secrets
import time

from sanic import Request
from sanic.response import BaseHTTPResponse

from app.openai.errors import ApiError
from wire.jobs import fingerprint

logger = logging.getLogger(__name__)

LONGEST_PATH = 200
"""Characters of a path that are logged."""

DISCONNECTED = 499
"""Status in the log if the client disconnected before there was one, as nginx calls it."""

PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that are asked all the time: logged at the level DEBUG."""


class Entry:
    """One request as the log describes it. Headers may be gone when it ends."""

    __slots__ = ("id", "job", "key", "operator", "sent", "started", "status")

    def __init__(self, given: str) -> None:
        self.id = f"req_{secrets.token_hex(12)}"
        bearer = given.rpartition(" ")[2].strip()
        self.key = fingerprint(bearer) if bearer else ""
        self.job = ""
        self.operator = ""
        self.status = DISCONNECTED
        self.sent = 0
        """Bytes of the answer's body."""
        self.started = time.monotonic()

    def answer(self, response: BaseHTTPResponse) -> None:
        """Note the answer that is about to be sent. What is streamed is added to `sent` later."""
        self.status = response.status
        self.job = response.headers.get("x-queue-id", self.job)
        self.sent = len(getattr(response, "body", None) or b"")

    def sign(self, operator: str) -> None:
        """Note the operator who sent the request; the bearer was not a client's key."""
        self.operator, self.key = operator, ""

    @property
    def names(self) -> dict[str, object]:
        """Names by which the request is found in the logs."""
        names = {
            "request": self.id,
            "job": self.job,
            "key": self.key,
            "operator": self.operator,
        }
        return {name: value for name, value in names.items() if value}


def entry_of(request: Request) -> Entry:
    """Return the entry of a request, which begins with the first call."""
    if not hasattr(request.ctx, "entry"):
        headers = request.headers
        given = headers.get("authorization", "") or headers.get("x-api-key", "")
        request.ctx.entry = Entry(given)
    entry: Entry = request.ctx.entry
    return entry


def log_request(request: Request, *, is_cut: bool) -> None:
    """Log a request that has ended; `is_cut` if its client disconnected before that."""
    entry = entry_of(request)
    logger.log(
        logging.DEBUG if request.path in PROBES else logging.INFO,
        "a client disconnected" if is_cut else "a request was served",
        extra={
            "event": "request_cut" if is_cut else "request_served",
            "method": request.method,
            "path": request.path[:LONGEST_PATH],
            "status": entry.status,
            "ms": round((time.monotonic() - entry.started) * 1000),
            "bytes": entry.sent,
        }
        | entry.names,
    )


def log_failure(request: Request | None, failure: ApiError) -> None:
    """Log the reason for which a request failed; also within a stream, whose status is 200."""
    names: dict[str, object] = {"request": "unparsed"}
    if request is not None:
        entry = entry_of(request)
        entry.job = failure.job or entry.job
        names = entry.names
    fields = {"status": failure.http_status, "code": failure.code or failure.param}
    logger.info("a request failed", extra={"event": "request_failed"} | names | fields)
