"""The HTTP server: routes, what every answer carries, and what goes wrong outside the features."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic import exceptions as sanic_errors
from sanic.compat import Header
from sanic.handlers import ErrorHandler
from sanic.http import Http
from sanic.response import BaseHTTPResponse, empty

from app.chat import Chat
from app.files.attachments import Attachments
from app.http.body import SMALL, bearer
from app.http.budget import Budget
from app.http.json_answer import json
from app.images import Images
from app.line import Line
from app.media import Served
from app.metrics import Metrics
from app.models import Models
from app.openai.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    InternalError,
    LineUnavailable,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    Unauthorized,
)
from app.openai.usage import encoding
from app.queue import QueueEntries
from runtime.logs import describe_traceback
from runtime.tasks import background
from settings import Settings
from store.blobs import Blobs
from store.media import Media, keep_sweeping

logger = logging.getLogger(__name__)

Feature = Callable[[Request], Coroutine[None, None, HTTPResponse | None]]

HEADER_TIMEOUT = 30
"""Seconds that a request's head may take to arrive."""


LAST_WORDS = 1.0
"""Seconds for telling the clients whose answers do not end in time."""


SWEEP_INTERVAL = 600.0
"""Seconds between two looks for media that are too old."""


def request_id(request: Request) -> str:
    """The name of one request, in its answer and in our log."""
    if not hasattr(request.ctx, "id"):
        request.ctx.id = f"req_{secrets.token_hex(12)}"
    return str(request.ctx.id)


class Health(msgspec.Struct, frozen=True):
    """The body of `/healthz` and `/readyz`."""

    status: str
    reasons: list[str] = []


class GatewayRequest(Request[Any, Any]):
    """A request that can also stand for one whose target could not be parsed.

    Sanic makes such a stand-in to answer errors with, out of the very target that has just failed.
    """

    def __init__(
        self, url_bytes: bytes, headers: Header, version: str, method: str, *more: Any, **named: Any
    ) -> None:
        target = b"*" if method == "NONE" else url_bytes
        super().__init__(target, headers, version, method, *more, **named)


class OpenAIErrors(ErrorHandler):
    """Every error as OpenAI's error object, also those before there is a request."""

    def default(self, request: Request | None, exception: BaseException) -> HTTPResponse:
        """Render any exception."""
        if isinstance(exception, asyncio.CancelledError):
            return empty()  # the client has left: nobody will read this
        failure = _translate(exception)
        name = request_id(request) if request else "that never parsed"
        if isinstance(failure, InternalError):
            logger.error("request %s met a bug: %s", name, describe_traceback(exception))
        else:
            job = f" (job {failure.job})" if failure.job else ""
            told = failure.code or failure.param
            logger.info("request %s%s: %d %s", name, job, failure.http_status, told)
        return json(failure.object, failure.http_status, failure.headers)


def _translate(exception: BaseException) -> ApiError:
    match exception:
        case ApiError():
            return exception
        case sanic_errors.NotFound():
            return NotFound()
        case sanic_errors.MethodNotAllowed():
            return MethodNotAllowed()
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


class Server:
    """The front end's Sanic app, and its life."""

    def __init__(
        self, config: Settings, line: Line, media: Media, blobs: Blobs, metrics: Metrics
    ) -> None:
        self._config = config
        self._line = line
        self._media = media
        self._blobs = blobs
        # Who has waited half of its time has the other half to hear that it waited in vain.
        self._budget = Budget(config.server.max_body_bytes, config.server.body_timeout / 2)
        self._attachments = Attachments(config.files, blobs, self._budget)
        self._metrics = metrics
        self._models = Models(config.models, config.custom)
        self._life: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._draining = False
        self._open = 0
        self._answered = asyncio.Event()
        self._answered.set()

    def attach(self, app: Sanic[Any, Any]) -> None:
        """Give the app its routes, its error pages and its life."""
        server = self._config.server
        stream = self._config.stream
        longest = self._config.queue.longest_wait + self._config.upstream.max_duration
        app.config.update(
            # Sanic counts from the last byte sent; our own deadlines come long before this one.
            RESPONSE_TIMEOUT=round(longest + stream.keepalive_interval + 3600),
            REQUEST_TIMEOUT=HEADER_TIMEOUT,
            REQUEST_MAX_SIZE=SMALL,  # of bodies that nobody asked for: the routes below read theirs
            REQUEST_MAX_HEADER_SIZE=16_384,
            GRACEFUL_SHUTDOWN_TIMEOUT=2,  # the draining before it waits for the answers
            ACCESS_LOG=False,
        )
        app.error_handler = OpenAIErrors()
        v1 = f"{server.api_prefix}/v1"
        chat = Chat(self._config, self._line, self._models, self._attachments)
        # stream=True: the handler reads the body itself, under a deadline of its own.
        images = Images(self._config, self._line, self._models, self._media, self._budget)
        for feature, uri, name in (
            (self._counted(chat), f"{v1}/chat/completions", "chat"),
            (self._counted(images), f"{v1}/images/generations", "generations"),
        ):
            app.add_route(feature, uri, methods=["POST"], name=name, stream=True)
        patience = stream.send_timeout
        for handler, uri, name in (
            (self._models_list, f"{v1}/models", "models"),
            (self._model, f"{v1}/models/<name:path>", "model"),
            (self._healthz, "/healthz", "healthz"),
            (self._readyz, "/readyz", "readyz"),
            (self._metrics, "/metrics", "metrics"),
            (Served(self._media, "images", patience), "/images/<name:str>", "images"),
            (Served(self._media, "files", patience), "/files/<name:str>", "files"),
        ):
            app.add_route(handler, uri, methods=["GET", "HEAD"], name=name)
        entries = QueueEntries(self._line)
        app.add_route(entries.show, f"{v1}/queue/<id>", methods=["GET"], name="place")
        app.add_route(entries.withdraw, f"{v1}/queue/<id>", methods=["DELETE"], name="withdraw")
        app.register_middleware(self._before, "request")
        app.register_middleware(self._after, "response")
        app.register_listener(self._start, "before_server_start")
        app.register_listener(self._drain, "before_server_stop")
        app.register_listener(self._stop, "after_server_stop")

    # Life

    async def _start(self, app: Sanic[Any, Any]) -> None:
        await asyncio.to_thread(encoding)
        entered = asyncio.Event()
        self._life = asyncio.create_task(self._live(app, entered))
        await entered.wait()

    async def _live(self, app: Sanic[Any, Any], entered: asyncio.Event) -> None:
        # In a task of its own: Sanic's listeners each run in another one, and what runs beside the
        # line must find somebody to tell when it fails.
        try:
            async with (
                self._attachments.running(),
                self._line.running(),
                background(
                    keep_sweeping(self._media.sweep, "images and files", SWEEP_INTERVAL),
                    keep_sweeping(self._blobs.sweep, "parts of jobs", SWEEP_INTERVAL),
                ),
            ):
                entered.set()
                await self._stopping.wait()
        except Exception:
            logger.critical("the line met a bug; this front end stops", exc_info=True)
            self._line.fail_all("This front end met a bug and stops.", "internal_error")
            app.stop()
            raise

    def _counted(self, feature: Feature) -> Feature:
        """A feature whose requests are waited for when this front end stops.

        They are in line for a part of that time only, some of them several times.
        """

        async def answer(request: Request) -> HTTPResponse | None:
            self._open += 1
            self._answered.clear()
            try:
                return await feature(request)
            finally:
                self._open -= 1
                if not self._open:
                    self._answered.set()

        return answer

    async def _drain(self, _: Sanic[Any, Any]) -> None:
        self._draining = True
        logger.info("stopping: answers under way may finish, new requests are refused")
        try:
            async with asyncio.timeout(self._config.server.drain_timeout):
                await self._answered.wait()
        except TimeoutError:
            self._line.fail_all("This front end was stopped before the answer ended.", "stopped")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._answered.wait()

    async def _stop(self, _: Sanic[Any, Any]) -> None:
        self._stopping.set()
        if self._life is not None:
            await self._life

    # Every request and every answer

    async def _before(self, request: Request) -> HTTPResponse | None:
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            return empty()
        if self._draining and request.path.startswith(f"{self._config.server.api_prefix}/v1/"):
            raise LineUnavailable("This front end is stopping. Try again: another one answers.")
        return None

    async def _after(self, request: Request, response: BaseHTTPResponse) -> None:
        response.headers["x-request-id"] = request_id(request)
        self._allow_browser(request, response)
        # A body that nobody read (a 404, a 408): Sanic would go on reading it, for as long as an
        # answer may take. The connection ends with this answer instead.
        connection = request.stream
        if isinstance(connection, Http) and connection.request_body:
            connection.request_body = None
            connection.expecting_continue = False
            connection.keep_alive = False

    def _allow_browser(self, request: Request, response: BaseHTTPResponse) -> None:
        """CORS: pages of the allowed origins may call us and read the answers."""
        origin, allowed = request.headers.get("origin"), self._config.server.cors_origins
        if origin is None or not ("*" in allowed or origin in allowed):
            return
        response.headers["access-control-allow-origin"] = "*" if "*" in allowed else origin
        response.headers["vary"] = "origin"
        response.headers["access-control-expose-headers"] = (
            "x-request-id, retry-after, x-should-retry, x-queue-id, x-queue-position, x-queue-eta"
        )
        if request.method == "OPTIONS":
            response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
            # Named one by one, since a wildcard would not cover Authorization.
            wanted = request.headers.get("access-control-request-headers", "")
            response.headers["access-control-allow-headers"] = (
                wanted or "authorization, content-type"
            )
            response.headers["access-control-max-age"] = "86400"

    # The small answers

    async def _models_list(self, request: Request) -> HTTPResponse:
        return json(self._models.all(await self._missed(request)))

    async def _model(self, request: Request, name: str) -> HTTPResponse:
        return json(self._models.one(unquote(name), await self._missed(request)))

    async def _missed(self, request: Request) -> set[str]:
        """The GPTs that whoever asks cannot reach. Nobody needs a bearer to ask."""
        try:
            token = bearer(request)
        except Unauthorized:
            token = ""
        return await self._line.missed(token, self._models.gpts)

    async def _healthz(self, _: Request) -> HTTPResponse:
        return json(Health("ok"))

    async def _readyz(self, _: Request) -> HTTPResponse:
        fatal, lesser = await self._line.troubles()
        if self._draining:
            fatal.append("this front end is stopping")
        if fatal:
            return json(Health("unavailable", fatal + lesser), 503)
        return json(Health("degraded" if lesser else "ok", lesser))
