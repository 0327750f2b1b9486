"""Runs `server.processes` front ends on one listening socket: starts, restarts and stops them.

The parent binds the socket and serves no requests itself. Each front end is a process of its own
that inherits the socket, so the kernel passes each connection to a process that is alive, and keeps
it waiting while there is none. A front end that dies is restarted. Children have sessions of their
own, so that a terminal signals only the parent, and on Linux the kernel kills them when the parent
is killed.
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
"""Argument that passes the file descriptor of the socket to a child."""

LEEWAY = 10.0
"""Seconds that a front end may take to stop beyond its drain timeout."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a dead front end is restarted; doubled each time."""

STABLE = 60.0
"""Seconds after which a front end counts as stable: the next pause is the first one again."""


def listen(server: settings.Server) -> socket.socket:
    """Open the socket that clients connect to.

    Raises:
        settings.SettingsError: the address cannot be listened on.
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
    """Return the socket inherited from the parent, if this process is a child of `Processes`."""
    match arguments:
        case []:
            return None
        case [option, number] if option == INHERIT and number.isdecimal():
            return socket.socket(fileno=int(number))
        case _:
            sys.exit("python -m app takes no arguments; it is configured by settings.toml")


class Processes:
    """Front ends of one parent process."""

    def __init__(self, listener: socket.socket, count: int, drain_timeout: float) -> None:
        self._listener = listener
        self._count = count
        self._patience = drain_timeout + LEEWAY
        self._children: set[Process] = set()
        self._stopping = asyncio.Event()
        self._kill_now = asyncio.Event()

    async def run(self) -> None:
        """Keep them running until SIGTERM or SIGINT; return when all have exited.

        They have `drain_timeout` and some leeway to exit. A second signal kills them at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(self._stop())
            async with asyncio.TaskGroup() as keepers:
                for _ in range(self._count):
                    keepers.create_task(self._keep())
            stopping.cancel()

    async def _stop(self) -> None:
        await self._stopping.wait()
        self._listener.close()  # or clients would wait at a socket that is no longer served
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._kill_now.wait(), self._patience)
        logger.error(
            "killing %d front ends that have not stopped",
            len(self._children),
            extra={"event": "front_ends_killed"},
        )
        self._signal(signal.SIGKILL)

    def _on_signal(self) -> None:
        (self._kill_now if self._stopping.is_set() else self._stopping).set()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._children:
            with suppress(ProcessLookupError):  # it has just exited
                process.send_signal(number)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                outcome = await self._run_one()
            except OSError as error:  # out of memory or processes: retry later
                outcome = f"a front end could not be started ({error.strerror})"
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= STABLE:
                pause = FIRST_PAUSE
            logger.error(
                "%s; another one starts in %.1f s",
                outcome,
                pause,
                extra={"event": "front_end_died"},
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_one(self) -> str:
        """Run a front end until it exits; describe its exit."""
        descriptor = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", INHERIT, str(descriptor)),
            stdin=DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        self._children.add(process)
        if self._stopping.is_set():  # signalled while it was being started
            process.terminate()
        status = await process.wait()
        self._children.discard(process)
        if status < 0:
            return f"front end {process.pid} was killed by signal {-status}"
        return f"front end {process.pid} exited with status {status}"
