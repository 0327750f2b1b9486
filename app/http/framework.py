"""Sanic as this gateway needs it: error bodies, request ids, CORS, and repairs of its behaviour."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic import exceptions as sanic_errors
from sanic.application.state import ApplicationServerInfo
from sanic.handlers import ErrorHandler
from sanic.http.constants import HTTP
from sanic.response import BaseHTTPResponse, empty

import settings
from app.http.access_log import entry_of, log_failure
from app.http.allowance import NAMES as ALLOWANCE_HEADERS
from app.http.body import SMALL
from app.http.connection import UNPARSED, GatewayHttp, GatewayRequest
from app.http.connections import limited_connections
from app.http.error_answer import error_answer
from app.http.isolation import is_below, isolate
from app.http.pacing import Pacer
from app.http.unserved import Served, method_not_allowed
from app.openai.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    InternalError,
    LineUnavailable,
    RequestTimeout,
)
from runtime.log_lines import describe_traceback

logger = logging.getLogger(__name__)

EXPOSED = (
    "x-request-id, retry-after, x-should-retry, x-queue-id, x-queue-position, x-queue-eta,"
    " x-ignored-parameters, x-format-warning, " + ", ".join(ALLOWANCE_HEADERS)
)
"""Headers of answers that pages may read."""

METRICS = "/metrics"

DEPARTURES = 20
"""Clients that disconnect in one turn of the event loop: to end a request takes up to 0.3 ms."""


def configure(
    app: Sanic[Any, Any],
    longest_answer: float,
    server: settings.Server,
    served: Served,
    isolated: str = "",
) -> None:
    """Set up an app, except for its routes. An answer takes at most `longest_answer` seconds.

    Pages of other origins cannot read answers of paths below `isolated`.
    """
    app.ctx.server = server
    app.ctx.connections = limited_connections(server)
    app.ctx.departures = Pacer(DEPARTURES)
    app.config.update(
        # Sanic counts from the head of an answer; our own deadlines are long before this one.
        RESPONSE_TIMEOUT=round(longest_answer + 3600),
        REQUEST_TIMEOUT=server.header_timeout,
        REQUEST_MAX_SIZE=SMALL,  # the routes of features read their bodies themselves
        REQUEST_MAX_HEADER_SIZE=16_384,
        GRACEFUL_SHUTDOWN_TIMEOUT=2,  # by then our own draining has waited for the answers
        ACCESS_LOG=False,
    )
    # Without it, Sanic sends an `alt-svc` header that is empty, which HTTP does not allow.
    app.state.server_info.append(ApplicationServerInfo({"version": HTTP.VERSION_1}))
    app.error_handler = ApiErrors(served)

    async def complete(request: Request, response: BaseHTTPResponse) -> None:
        entry = entry_of(request)
        entry.answer(response)
        response.headers["x-request-id"] = entry.id
        if is_below(request.path, isolated):
            isolate(response)
        else:
            _add_cors_headers(request, response, server.cors_origins)
        _discard_unread_body(request, response.status)

    async def refuse_other_spellings(request: Request) -> None:
        """Refuse further slashes in a path that is not for clients; elsewhere they are ignored.

        Proxies keep clients from these paths as they are written.
        """
        path = f"/{request.route.path}" if request.route else ""
        had_more = isinstance(request, GatewayRequest) and request.had_more_slashes
        has_last = request.path.endswith("/") and request.path != f"{isolated}/"
        if (had_more or has_last) and (path == METRICS or is_below(path, isolated)):
            raise served.not_found(request.method, request.path)

    app.register_middleware(refuse_other_spellings, "request")
    app.register_middleware(_answer_preflight, "request")
    app.register_middleware(_refuse_useless_body, "request")
    app.register_middleware(complete, "response")


class ApiErrors(ErrorHandler):
    """Renders every error as an error object of the API, even before there is a request."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self._served = served

    def default(self, request: Request | None, exception: BaseException) -> HTTPResponse:
        """Render any exception."""
        if isinstance(exception, asyncio.CancelledError | sanic_errors.RequestCancelled):
            if request is not None:
                entry_of(request).is_cut = True  # the client has disconnected
            return empty()
        failure = self._translate(exception, request)
        if isinstance(failure, InternalError):
            names = entry_of(request).names if request else {"request": "unparsed"}
            logger.error(
                "a request failed with an internal error: %s",
                describe_traceback(exception),
                extra={"event": "internal_error"} | names,
            )
        log_failure(request, failure)
        return error_answer(request, failure)

    def _translate(self, exception: BaseException, request: Request | None) -> ApiError:
        match exception:
            case ApiError():
                return exception
            case sanic_errors.NotFound() if request is not None:
                return self._served.not_found(request.method, request.path)
            case sanic_errors.MethodNotAllowed() if request is not None:
                return method_not_allowed(
                    request.method, request.path, exception.allowed_methods or ()
                )
            case sanic_errors.RequestTimeout():
                return RequestTimeout()
            case sanic_errors.PayloadTooLarge():
                return HeadersTooLarge() if "header" in str(exception).lower() else BodyTooLarge()
            case sanic_errors.ServiceUnavailable():
                return LineUnavailable()
            case sanic_errors.SanicException() if 400 <= exception.status_code < 500:
                return BadRequest(str(exception) or None)
            case _:
                return InternalError()


async def _answer_preflight(request: Request) -> HTTPResponse | None:
    if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
        return empty()
    return None


async def _refuse_useless_body(request: Request) -> None:
    """Refuse a large body that no route reads. A small one is ignored."""
    ignored = request.route is not None and request.route.extra.ignore_body
    if ignored and int(request.headers.get("content-length", 0)) > SMALL:
        raise BodyTooLarge


def _add_cors_headers(
    request: Request, response: BaseHTTPResponse, allowed: tuple[str, ...]
) -> None:
    """Let pages of the allowed origins call us and read the answers."""
    origin = request.headers.get("origin")
    if origin is None or not ("*" in allowed or origin in allowed):
        return
    response.headers["access-control-allow-origin"] = "*" if "*" in allowed else origin
    response.headers["vary"] = "origin"
    response.headers["access-control-expose-headers"] = EXPOSED
    if request.method == "OPTIONS":
        response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
        # Listed one by one, since a wildcard does not cover Authorization.
        requested = request.headers.get("access-control-request-headers", "")
        response.headers["access-control-allow-headers"] = (
            requested or "authorization, content-type"
        )
        response.headers["access-control-max-age"] = "86400"
        # Chrome asks before a page of the internet calls a server of a private network. "*" does
        # not let any page that somebody visits do that.
        asks = "access-control-request-private-network" in request.headers
        if asks and origin in allowed:
            response.headers["access-control-allow-private-network"] = "true"


def _discard_unread_body(request: Request, status: int) -> None:
    """Close the connection after an answer whose request was not read as a whole (a 404, a 431).

    Sanic would continue to read it, for as long as an answer may take.
    """
    connection = request.stream
    if not isinstance(connection, GatewayHttp):
        return
    if connection.request_body or request.method == UNPARSED:
        connection.request_body = None
        connection.expecting_continue = False
        connection.keep_alive = False
        connection.unread = status != RequestTimeout.status
