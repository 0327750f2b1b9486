"""The front ends of one listening socket: this process starts, restarts, replaces and stops them.

It holds the socket, and a second one if operators have a port of their own, and serves no requests
itself. Each front end is a process of its own that inherits the sockets, so the kernel passes each
connection to a process that accepts, and keeps it waiting while there is none. Front ends have
sessions of their own, so that a terminal signals only this process, and on Linux the kernel kills
them when this process is killed.

On SIGHUP, new front ends are started from the code and the settings of that time. Once all of them
are ready, the former ones hand over (`app/front_end.py`). If one of the new ones ends before,
nothing changes. This process keeps the code it was started with; its own settings are read anew by
code of that time, too (`app/supervision.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from app.supervision import Supervision, read_anew
from runtime.children import die_with_parent
from runtime.tasks import first_of
from wire import VERSION

logger = logging.getLogger(__name__)

READY = b"ready\n"
"""Line on standard output by which a front end reports that it serves."""

LEEWAY = 10.0
"""Seconds that a front end may take to stop beyond its drain timeout."""

HURRY = 3.0
"""Seconds that it may take at a second signal: enough to send an error to its clients."""

START_TIMEOUT = 60.0
"""Seconds within which new front ends must be ready to replace the former ones."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a dead front end is restarted; doubled each time."""

STABLE = 60.0
"""Seconds after which a front end counts as stable: the next pause is the first one again."""


class FrontEnds:
    """Front ends that start together. One that dies is restarted, until they are stopped."""

    def __init__(self, listeners: Sequence[socket.socket], supervision: Supervision) -> None:
        self.supervision = supervision
        self.patience = supervision.drain_timeout + LEEWAY
        """Seconds within which a stop ends them."""
        self.started = asyncio.Event()
        """Set once all have been ready."""
        self.failed = asyncio.Event()
        """Set if one exits before that, or if none can serve with these settings and data."""
        self.ended = asyncio.Event()
        """Set once they have been stopped and have exited, or have failed."""
        self._listeners = listeners
        self._count = supervision.processes
        self._ready: set[int] = set()
        self._processes: set[Process] = set()
        self._signal: signal.Signals | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep them running; return when all have exited."""
        async with asyncio.TaskGroup() as keepers:
            for number in range(self._count):
                keepers.create_task(self._keep(number))
        self.ended.set()

    def stop(self, number: signal.Signals) -> None:
        """Send a signal that ends them."""
        self._signal = number
        self._stopping.set()
        for process in self._processes:
            with suppress(ProcessLookupError):  # it has just exited
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                outcome = await self._run_one(number)
            except OSError as error:  # out of memory or processes: retry later
                outcome = f"a front end could not be started ({error.strerror})"
            if self._stopping.is_set() or self.failed.is_set():
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

    async def _run_one(self, number: int) -> str:
        """Run a front end until it exits; describe its exit."""
        clients, *admin = (listener.fileno() for listener in self._listeners)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.front_end", *map(str, (clients, VERSION, *admin))),
            stdin=DEVNULL,
            stdout=PIPE,
            pass_fds=[clients, *admin],
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        self._processes.add(process)
        if self._signal is not None:  # sent while it was being started
            process.send_signal(self._signal)
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        async for line in process.stdout:
            if line == READY:
                self._note_ready(number)
        status = await process.wait()
        self._processes.discard(process)
        self._ready.discard(number)
        if status < 0:
            return f"front end {process.pid} was killed by signal {-status}"
        if status > 0 and not self.started.is_set():
            self.failed.set()
        if status == os.EX_CONFIG and not self._ready:  # another one would exit as well
            self.failed.set()
        return f"front end {process.pid} exited with status {status}"

    def _note_ready(self, number: int) -> None:
        self._ready.add(number)
        if len(self._ready) == self._count:
            self.started.set()


class Supervisor:
    """All front ends of this process. `is_ours`: no other process will serve the socket later.

    `listeners` are the socket for clients, and that of operators if they have one of their own.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], supervision: Supervision, *, is_ours: bool
    ) -> None:
        self._listeners = listeners
        self._started_with = supervision
        self._is_ours = is_ours
        self.current = FrontEnds(listeners, supervision)
        self._former: list[FrontEnds] = []
        self._reloading = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status when all front ends have exited.

        They have `drain_timeout` and some leeway for that; a second signal makes them hurry.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reloading.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.current.run())
            while not (self._stopping.is_set() or self.current.failed.is_set()):
                events = (self._stopping, self._reloading, self.current.failed)
                await first_of(*(event.wait() for event in events))
                if self._reloading.is_set():
                    self._reloading.clear()
                    await self._replace(group)
            await self._stop()
        return 1 if self.current.failed.is_set() else 0

    def _on_stop(self) -> None:
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def _replace(self, group: asyncio.TaskGroup) -> None:
        """Replace the front ends by new ones, if those become ready."""
        logger.info("reloading: new front ends start", extra={"event": "reload_started"})
        fresh = FrontEnds(self._listeners, await self._read_anew())
        group.create_task(fresh.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                await first_of(fresh.started.wait(), fresh.failed.wait(), self._stopping.wait())
        if fresh.started.is_set():
            logger.info(
                "reloaded: the former front ends finish their answers",
                extra={"event": "reload_finished"},
            )
            self.current, fresh = fresh, self.current
        elif not self._stopping.is_set():
            logger.error(
                "the reload failed, as a new front end did not become ready; the former ones stay",
                extra={"event": "reload_failed"},
            )
        self._former = [one for one in self._former if not one.ended.is_set()] + [fresh]
        fresh.stop(signal.SIGHUP)
        group.create_task(self._outlast(fresh))

    async def _read_anew(self) -> Supervision:
        """Return the settings of this time; the former ones if they cannot be read.

        In that case the new front ends cannot read them either, and say why.
        """
        read = await asyncio.to_thread(read_anew) or self.current.supervision
        first = self._started_with
        if self._is_ours and (read.host, read.port) != (first.host, first.port):
            _warn("server.host or server.port", read.host, read.port)
        if (read.admin_host, read.admin_port) != (first.admin_host, first.admin_port):
            _warn("admin.host or admin.port", read.admin_host, read.admin_port)
        return read

    async def _outlast(self, former: FrontEnds) -> None:
        if not await _ended([former], former.patience):
            _kill([former])

    async def _stop(self) -> None:
        for listener in self._listeners:
            listener.close()  # or clients would wait at a socket that is no longer served
        every = [self.current, *self._former]
        if not self._is_ours:
            self.current.stop(signal.SIGHUP)  # leave new connections to the next process
        for front_ends in every:
            front_ends.stop(signal.SIGTERM)
        patience = max(front_ends.patience for front_ends in every)
        if await _ended(every, patience, unless=self._hurrying):
            return
        if self._hurrying.is_set():
            for front_ends in every:
                front_ends.stop(signal.SIGINT)
            if await _ended(every, HURRY):
                return
        _kill(every)


def _warn(changed: str, host: str, port: int) -> None:
    logger.warning(
        "%s has changed, which takes effect at a restart only",
        changed,
        extra={"event": "restart_needed", "host": host, "port": port},
    )


async def _ended(
    every: list[FrontEnds], within: float, unless: asyncio.Event | None = None
) -> bool:
    """Wait until all have ended, unless the time passes or the event is set before."""

    async def all_ended() -> None:
        for front_ends in every:
            await front_ends.ended.wait()

    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await first_of(all_ended(), *([unless.wait()] if unless else []))
    return all(front_ends.ended.is_set() for front_ends in every)


def _kill(every: list[FrontEnds]) -> None:
    logger.error("killing front ends that have not stopped", extra={"event": "front_ends_killed"})
    for front_ends in every:
        front_ends.stop(signal.SIGKILL)
