"""`server.processes` front ends on one listening socket: started, watched, and ended together.

The parent binds the socket and serves nothing itself. Each front end is a process of its own that
inherits the socket, so the kernel hands a connection to one that is alive, and holds it back while
none is. One that dies is started again. Children have sessions of their own, so that only the
parent is signalled by a terminal, and on Linux the kernel kills them when it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress

import settings
from runtime.children import die_with_parent

logger = logging.getLogger(__name__)

INHERIT = "--socket"
"""The argument that names the file descriptor of the socket to a child."""

LEEWAY = 10.0
"""Seconds that a front end may take to end beyond its drain timeout."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before one that died is started again; each time twice as long."""

SETTLED = 60.0
"""Seconds after which a front end counts as sound: its death begins with the first pause again."""


def listen(server: settings.Server) -> socket.socket:
    """The socket that clients connect to.

    Raises:
        settings.SettingsError: nobody can listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise settings.SettingsError(
            f"server.host and server.port: cannot listen on {server.host} port {server.port}: "
            f"{(error.strerror or '').partition(' (')[0]}"
        ) from None


def inherited(arguments: list[str]) -> socket.socket | None:
    """The socket that a parent handed down, if this process is a child of `Processes`."""
    match arguments:
        case []:
            return None
        case [option, number] if option == INHERIT and number.isdecimal():
            return socket.socket(fileno=int(number))
        case _:
            sys.exit("python -m app takes no arguments; it is told by settings.toml")


class Processes:
    """The front ends of one parent."""

    def __init__(self, listener: socket.socket, count: int, drain_timeout: float) -> None:
        self._listener = listener
        self._count = count
        self._patience = drain_timeout + LEEWAY
        self._children: set[Process] = set()
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    async def run(self) -> None:
        """Keep them running until SIGTERM or SIGINT; return when all have ended.

        They have `drain_timeout` and some leeway to end. A second signal kills them at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._told)
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(self._end())
            async with asyncio.TaskGroup() as keepers:
                for _ in range(self._count):
                    keepers.create_task(self._keep())
            ending.cancel()

    async def _end(self) -> None:
        await self._stopping.wait()
        self._listener.close()  # or clients would wait at a socket that nobody serves any more
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), self._patience)
        logger.error("%d front ends have not ended and are killed", len(self._children))
        self._signal(signal.SIGKILL)

    def _told(self) -> None:
        (self._hurried if self._stopping.is_set() else self._stopping).set()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._children:
            with suppress(ProcessLookupError):  # it has just ended
                process.send_signal(number)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                end = await self._run_one()
            except OSError as error:  # no memory, no process to be had: perhaps later
                end = f"a front end could not be started ({error.strerror})"
            if self._stopping.is_set():
                return
            if time.monotonic() - begun >= SETTLED:
                pause = FIRST_PAUSE
            logger.error("%s; another one starts in %.1f s", end, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_one(self) -> str:
        """Start a front end and wait for its end; how it ended."""
        descriptor = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", INHERIT, str(descriptor)),
            stdin=DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        self._children.add(process)
        if self._stopping.is_set():  # told while it was being started
            process.terminate()
        status = await process.wait()
        self._children.discard(process)
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"front end {process.pid} {how}"
