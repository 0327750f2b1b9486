"""`python -m app.front_end <descriptor> <version>`: one front end, on the socket of its parent.

The parent (`app/supervisor.py`) directs it by signals. SIGTERM stops it: it refuses new requests,
and open answers may finish. SIGINT does not wait for them. SIGHUP makes it hand over to another
process that accepts from the same socket: new connections are left to that one, and requests on
open connections are served, each as the last one of its connection. So none is closed while its
client sends a request.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
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
from runtime import logs
from runtime.garbage import collect_rarely
from runtime.permissions import restrict_new_files
from runtime.tasks import first_of
from settings.loader import load
from wire import VERSION
from wire.line.scripts import WrongVersionError, upgrade
from wire.seal import Seal, load_secret

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

    async def run(self, app: Sanic[Any, Any], listener: socket.socket) -> None:
        """Serve; return when everything has ended."""
        app.config.MOTD = False
        self._server: Any = await app.create_server(
            sock=listener,
            backlog=BACKLOG,
            protocol=GatewayProtocol,
            return_asyncio_server=True,
            asyncio_server_kwargs={"start_serving": False},
        )
        self._obey_signals()
        await self._start()
        announcing = asyncio.create_task(self._announce())
        await first_of(self._stopping.wait(), self._leaving.wait(), self._front_end.failed.wait())
        if self._leaving.is_set():
            await self._outlast_connections()
        announcing.cancel()
        await self._stop()

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
        self._server.close()
        self._leaving.set()

    async def _start(self) -> None:
        await self._server.startup()
        await self._server.before_start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._front_end.joined.wait(), JOIN_PATIENCE)
        await self._server.start_serving()
        await self._server.after_start()

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
        while self._server.connections:  # noqa: ASYNC110 - Sanic has no event for the last one
            await asyncio.sleep(LOOK)

    async def _stop(self) -> None:
        await self._server.before_stop()  # the open answers finish
        self._server.close()
        for connection in list(self._server.connections):
            connection.close_if_idle()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._no_connection(), LAST_BYTES)
        for connection in list(self._server.connections):
            connection.abort()
        await self._server.after_stop()


async def serve(
    config: settings.Settings, seal: Seal, listener: socket.socket, announcement: int
) -> None:
    """Run a front end with the real Redis."""
    front_end = build_server(config, seal, host=host(listener))
    await upgrade(config.redis.role_url, seal.fingerprint)
    app: Sanic[Any, Any] = Sanic("gateway", configure_logging=False, request_class=GatewayRequest)
    front_end.attach(app)
    process = FrontEndProcess(front_end, config.server.drain_timeout, announcement)
    await process.run(app, listener)
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


def main(descriptor: str, version: str) -> None:
    """Read the settings and serve."""
    announcement = take_stdout()
    if version != str(VERSION):
        # Other roles of that version run, and ours would convert their data in Redis.
        give_up(
            f"This release needs data of version {VERSION}, the running one {version}: a reload is"
            " not enough. Stop all roles, then start them."
        )
    listener = socket.socket(fileno=int(descriptor))
    try:
        config = load()
        restrict_new_files()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        collect_rarely()
        uvloop.run(serve(config, seal, listener, announcement))
    except (settings.SettingsError, WrongVersionError) as error:
        give_up(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
