"""Writes the figures of this process at every heartbeat, until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable

from msgspec.structs import replace

from runtime.footprint import cpu_time, memory, open_files
from runtime.lag import Lag
from runtime.tasks import background
from wire import VERSION
from wire.line.processes import Processes, ProcessFigures, Role
from wire.redis.outage import REDIS_ERRORS

AddWork = Callable[[ProcessFigures], ProcessFigures]
"""Returns figures with the work that the process has at this time."""

LAST_CALL = 1.0
"""Seconds for removing the figures at the end. Otherwise they expire."""


@contextlib.asynccontextmanager
async def showing(
    processes: Processes, id: str, role: Role, add_work: AddWork, interval: float
) -> AsyncIterator[None]:
    """Write the figures of this process, every `interval` seconds, while the context lasts."""
    own = ProcessFigures(
        id=id,
        role=role,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=round(time.time(), 3),
        version=VERSION,
        fingerprint=processes.fingerprint,
    )
    lag = Lag()
    with lag.measured():
        async with background(_keep_showing(processes, own, lag, add_work, interval)):
            yield
    with contextlib.suppress(*REDIS_ERRORS):
        async with asyncio.timeout(LAST_CALL):
            await processes.remove(id)


async def _keep_showing(
    processes: Processes, own: ProcessFigures, lag: Lag, add_work: AddWork, interval: float
) -> None:
    while True:
        measured = replace(
            own,
            memory=memory(),
            cpu=round(cpu_time(), 3),
            lag=round(lag.largest, 4),
            open_files=await asyncio.to_thread(open_files),
        )
        # Heartbeats log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            await processes.show(add_work(measured))
        await asyncio.sleep(interval)
