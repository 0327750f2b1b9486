"""`python -m app.front_end <descriptor> <version> [<descriptor>]`: one front end, on the socket of
its parent, and on a second one if operators have a port of their own.

The parent (`app/supervisor.py`) directs it by signals. SIGTERM stops it: it refuses new requests,
and open answers may finish. SIGINT does not wait for them. SIGHUP makes it hand over to another
process that accepts from the same socket: new connections are left to that one, and requests on
open connections are served, each as the last one of its connection. So none is closed while its
client sends a request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import uvloop
from sanic import Sanic

import settings
from app.composition import build_server
from app.http.connection import GatewayProtocol, GatewayRequest
from app.http.sockets import BACKLOG, host
from app.server import FrontEndServer
from app.supervisor import READY
from runtime import logs, tracing
from runtime.garbage import collect_rarely
from runtime.permissions import restrict_new_files
from runtime.tasks import first_of
from settings.loader import load
from wire import VERSION
from wire.line.scripts import WrongVersionError, upgrade
from wire.seal import Seal, load_secret

logger = logging.getLogger(__name__)

JOIN_PATIENCE = 2.0
"""Seconds for which the first connections wait until the front end has joined the line."""

LAST_BYTES = 2.0
"""Seconds for sending the rest of the last answers, before connections are broken."""

LOOK = 0.05
"""Seconds between two looks for open connections."""


class FrontEndProcess:
    """Serves connections from a socket until a signal, or until the front end fails.

    `announcement` is the descriptor that its parent reads.
    """

    def __init__(self, front_end: FrontEndServer, drain_timeout: float, announcement: int) -> None:
        self._front_end = front_end
        self._announcement = announcement
        self._drain_timeout = drain_timeout
        self._stopping = asyncio.Event()
        self._leaving = asyncio.Event()

    async def run(self, listener: socket.socket, admin: socket.socket | None) -> None:
        """Serve clients, and operators at a port of their own; return when everything has ended."""
        clients = await self._server(self._front_end.attach, "gateway", listener)
        self._servers = [clients]
        if admin is not None:
            self._servers.append(await self._server(self._front_end.attach_admin, "admin", admin))
        self._obey_signals()
        await self._start()
        announcing = asyncio.create_task(self._announce())
        await first_of(self._stopping.wait(), self._leaving.wait(), self._front_end.failed.wait())
        if self._leaving.is_set():
            await self._outlast_connections()
        announcing.cancel()
        await self._stop()

    async def _server(
        self, attach: Callable[[Sanic[Any, Any]], None], name: str, listener: socket.socket
    ) -> Any:
        """Make a server that does not serve yet. Sanic's has no types."""
        app: Sanic[Any, Any] = Sanic(name, configure_logging=False, request_class=GatewayRequest)
        attach(app)
        app.config.MOTD = False
        return await app.create_server(
            sock=listener,
            backlog=BACKLOG,
            protocol=GatewayProtocol,
            return_asyncio_server=True,
            asyncio_server_kwargs={"start_serving": False},
        )

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._hurry)
        loop.add_signal_handler(signal.SIGHUP, self._hand_over)

    def _hurry(self) -> None:
        self._front_end.hurry()
        self._stopping.set()

    def _hand_over(self) -> None:
        self._front_end.hand_over()
        self._close()
        self._leaving.set()

    async def _start(self) -> None:
        for server in self._servers:
            await server.startup()
            await server.before_start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._front_end.joined.wait(), JOIN_PATIENCE)
        for server in self._servers:
            await server.start_serving()
            await server.after_start()

    def _close(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()

    @property
    def _connections(self) -> list[Any]:
        return [connection for server in self._servers for connection in server.connections]

    async def _announce(self) -> None:
        await self._front_end.joined.wait()
        os.write(self._announcement, READY)

    async def _outlast_connections(self) -> None:
        """Wait until each connection has been used once more, or the time to drain is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout):
                await first_of(
                    self._no_connection(), self._stopping.wait(), self._front_end.failed.wait()
                )

    async def _no_connection(self) -> None:
        while self._connections:  # noqa: ASYNC110 - Sanic has no event for the last one
            await asyncio.sleep(LOOK)

    async def _stop(self) -> None:
        for server in self._servers:
            await server.before_stop()  # the open answers finish
        self._close()
        for connection in self._connections:
            connection.close_if_idle()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._no_connection(), LAST_BYTES)
        for connection in self._connections:
            connection.abort()
        for server in self._servers:
            await server.after_stop()


async def serve(
    config: settings.Settings,
    seal: Seal,
    listener: socket.socket,
    admin: socket.socket | None,
    announcement: int,
) -> None:
    """Run a front end with the real Redis."""
    if config.admin_address and admin is None:  # a parent of an earlier time opened no port for it
        logger.warning(
            "nobody serves operators, as admin.port takes effect at a restart only",
            extra={"event": "restart_needed", "port": config.admin.port},
        )
    front_end = build_server(config, seal, host=host(listener))
    await upgrade(config.redis.role_url, seal.fingerprint)
    process = FrontEndProcess(front_end, config.server.drain_timeout, announcement)
    await process.run(listener, admin)
    if front_end.wrong_version is not None:
        raise front_end.wrong_version


def give_up(reason: str) -> NoReturn:
    """Exit with the status of a front end in whose place another one would exit as well."""
    sys.stderr.write(f"{reason}\n")
    sys.exit(os.EX_CONFIG)


def take_stdout() -> int:
    """Return another descriptor of standard output, which is standard error from then on.

    The parent reads one line. Whatever else a library may print there would fill the pipe.
    """
    taken = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return taken


def main(descriptor: str, version: str, admin_descriptor: str = "") -> None:
    """Read the settings and serve."""
    announcement = take_stdout()
    if version != str(VERSION):
        # Other roles of that version run, and ours would convert their data in Redis.
        give_up(
            f"This release needs data of version {VERSION}, the running one {version}: a reload is"
            " not enough. Stop all roles, then start them."
        )
    listener = socket.socket(fileno=int(descriptor))
    admin = socket.socket(fileno=int(admin_descriptor)) if admin_descriptor else None
    try:
        config = load()
        restrict_new_files()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        collect_rarely()
        tracing.start(config.trace, "front_end")
        uvloop.run(serve(config, seal, listener, admin, announcement))
    except (settings.SettingsError, WrongVersionError) as error:
        give_up(str(error))
    finally:
        tracing.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
