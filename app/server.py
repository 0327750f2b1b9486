"""The HTTP server of one front end: its routes, and how it starts, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse, Request, Sanic
from sanic.http import Http
from sanic.response import BaseHTTPResponse

import settings
from app.health import Health
from app.http.connections import Connections
from app.http.framework import configure
from app.http.unserved import Served
from app.openai.errors import LineUnavailable
from runtime.tasks import find_error
from settings import Settings
from wire.line.processes import ProcessFigures
from wire.line.scripts import WrongVersionError
from wire.tokens.text import encoding

logger = logging.getLogger(__name__)

Feature = Callable[..., Coroutine[None, None, HTTPResponse | None]]

PROBES = ("/healthz", "/readyz")
ADMIN_CONNECTIONS = 200
"""Connections to the port of operators, for each front end."""

LAST_WORDS = 1.0
"""Seconds for sending an error to the clients whose answers did not finish in time."""


class Route(msgspec.Struct, frozen=True):
    """Handler of one path.

    `is_feature`: it uses the line, so a front end that stops waits for its answers. It reads the
    body itself, under a deadline of its own.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    handler: Callable[..., Coroutine[None, None, HTTPResponse | None]]
    is_feature: bool = False


class AdminRoutes(msgspec.Struct, frozen=True):
    """Routes of operators, all below `path`. `close_streams` ends their event streams."""

    routes: tuple[Route, ...] = ()
    path: str = ""
    close_streams: Callable[[], None] = lambda: None


NO_ADMIN = AdminRoutes()


class FrontEndServer:
    """Serves routes while the context made by `running` lasts; `fail_all` ends open answers."""

    def __init__(
        self,
        config: Settings,
        routes: Iterable[Route],
        health: Health,
        running: Callable[[], AbstractAsyncContextManager[None]],
        fail_all: Callable[[str, str], None],
        admin: AdminRoutes = NO_ADMIN,
    ) -> None:
        self._config = config
        self.routes = tuple(routes)
        self._health = health
        self._running = running
        self._fail_all = fail_all
        self._admin = admin
        self.wrong_version: WrongVersionError | None = None
        """The reason why it has stopped, if it is this one."""
        self.joined = health.subscribed
        """Set while this front end can put jobs in line."""
        self.failed = asyncio.Event()
        """Set if a background task has failed: this front end must stop."""
        self._life: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._open_answers = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._is_leaving = False
        self._connections: list[Connections] = []
        self._drain_by = math.inf
        self._draining: asyncio.Timeout | None = None

    def attach(self, app: Sanic[Any, Any]) -> None:
        """Add the routes, the error handler and the listeners to an app.

        The routes of operators are among them, unless they are for a port of their own.
        """
        admin = NO_ADMIN if self._config.admin.port else self._admin
        self._serve(app, self._config.server, self.routes, admin)
        app.register_listener(self._start, "before_server_start")
        app.register_listener(self._drain, "before_server_stop")
        app.register_listener(self._stop, "after_server_stop")

    def attach_admin(self, app: Sanic[Any, Any]) -> None:
        """Add the routes of operators, and the probes, to the app of a port of their own."""
        server = replace(self._config.server, cors_origins=(), max_connections=ADMIN_CONNECTIONS)
        probes = [route for route in self.routes if route.path in PROBES]
        self._serve(app, server, probes, self._admin)
        app.state.primary = False  # or Sanic would rewrite its own methods a second time

    def _serve(
        self,
        app: Sanic[Any, Any],
        server: settings.Server,
        public: Sequence[Route],
        admin: AdminRoutes,
    ) -> None:
        queue, stream = self._config.queue, self._config.stream
        longest = queue.longest_wait + self._config.longest_answer + stream.keepalive_interval
        served = Served(f"{server.api_prefix}/v1", [route.path for route in public], admin.path)
        configure(app, longest, server, served, admin.path)
        self._connections.append(app.ctx.connections)
        for route in (*public, *admin.routes):
            handler = self._counted(route.handler) if route.is_feature else route.handler
            app.route(
                route.path,
                methods=route.methods,
                name=route.name,
                stream=route.is_feature,
                ignore_body=not route.is_feature,  # Sanic would wait for it without a deadline
            )(handler)
        app.ctx.logs_requests = self._config.log.requests
        app.register_middleware(self._refuse_while_draining, "request")
        app.register_middleware(self._close_while_leaving, "response")

    def add_work(self, figures: ProcessFigures) -> ProcessFigures:
        """Return figures of this process with the work that it has at this time."""
        return replace(
            figures,
            connections=sum(map(len, self._connections)),
            streams=self._open_answers,
            draining=self._is_leaving or self._health.is_stopping,
        )

    def hand_over(self) -> None:
        """Answer each open connection once more at most, since another process serves new ones."""
        logger.info(
            "handing over: each open connection is served once more, another process serves others",
            extra={"event": "front_end_leaving", "open": self._open_answers},
        )
        self._is_leaving = True
        self._admin.close_streams()
        self._drain_by = asyncio.get_running_loop().time() + self._config.server.drain_timeout

    def hurry(self) -> None:
        """End open answers with an error as soon as this front end stops."""
        self._drain_by = asyncio.get_running_loop().time()
        if self._draining is not None:
            self._draining.reschedule(self._drain_by)

    async def _start(self, _: Sanic[Any, Any]) -> None:
        await asyncio.to_thread(encoding)
        entered = asyncio.Event()
        self._life = asyncio.create_task(self._live(entered))
        await entered.wait()
        logger.info("this process serves requests", extra={"event": "front_end_started"})

    async def _live(self, entered: asyncio.Event) -> None:
        # In a task of its own: Sanic runs each of its listeners in another one, and a background
        # task that fails must cancel something.
        try:
            async with self._running():
                entered.set()
                await self._stopping.wait()
        except Exception as error:
            self.wrong_version = find_error(error, WrongVersionError)
            if self.wrong_version is not None:
                self._fail_all("This front end is stopping. Retry the request.", "stopped")
                self.failed.set()
                return
            logger.critical(
                "a background task failed; stopping this front end",
                exc_info=True,
                extra={"event": "front_end_failed"},
            )
            self._fail_all(
                "This front end had an internal error and is stopping. Retry the request.",
                "internal_error",
            )
            self.failed.set()
            raise

    def _counted(self, feature: Feature) -> Feature:
        """Wrap a feature, so that a stop of this front end waits for its answers.

        Their jobs are in the line for only a part of that time, or several times.
        """

        async def answer(request: Request, **named: object) -> HTTPResponse | None:
            self._open_answers += 1
            self._all_answered.clear()
            try:
                return await feature(request, **named)
            finally:
                self._open_answers -= 1
                if not self._open_answers:
                    self._all_answered.set()

        return answer

    async def _refuse_while_draining(self, request: Request) -> None:
        is_api = request.path.startswith(f"{self._config.server.api_prefix}/v1/")
        if self._health.is_stopping and is_api:
            raise LineUnavailable("This front end is stopping.")

    async def _close_while_leaving(self, request: Request, _: BaseHTTPResponse) -> None:
        connection = request.stream
        if (self._is_leaving or self._health.is_stopping) and isinstance(connection, Http):
            connection.keep_alive = False

    async def _drain(self, _: Sanic[Any, Any]) -> None:
        self._health.is_stopping = True
        self._admin.close_streams()
        until = asyncio.get_running_loop().time() + self._config.server.drain_timeout
        self._drain_by = min(until, self._drain_by)
        logger.info(
            "stopping: open answers may finish, new requests are refused",
            extra={"event": "front_end_draining", "open": self._open_answers},
        )
        if not await self._is_answered_in_time():
            self._fail_all("This front end was stopped before the answer finished.", "stopped")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._all_answered.wait()

    async def _is_answered_in_time(self) -> bool:
        try:
            async with asyncio.timeout_at(self._drain_by) as self._draining:
                await self._all_answered.wait()
        except TimeoutError:
            return False
        finally:
            self._draining = None
        return True

    async def _stop(self, _: Sanic[Any, Any]) -> None:
        self._stopping.set()
        if self._life is not None:
            await self._life
