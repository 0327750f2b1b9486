"""Figures of each live process: its memory, the lag of its event loop, and the work that it has.

Each process writes its own at every heartbeat, in one call, and any process may read them all:
also those of processes with another secret, as nothing here is secret.
"""

from __future__ import annotations

from typing import Literal

import msgspec

import settings
from wire.line import keys
from wire.line.scripts import Scripts

Role = Literal["front_end", "worker"]


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one process at its last heartbeat.

    `started` is a Unix time, `version` that of the data in Redis, `fingerprint` that of the secret.
    `memory` is in bytes; `cpu` is the CPU time used since the start, and `lag` the largest lag of
    the event loop within the last minute, both in seconds. `open_files` includes sockets.

    A front end has `connections` of clients, and `streams`: requests that it is answering, waiting
    ones included. A worker runs `jobs`, at most `max_jobs` at each of its `upstreams`.
    """

    id: str
    role: Role
    host: str
    pid: int
    started: float
    version: int
    fingerprint: str
    memory: int = 0
    cpu: float = 0.0
    lag: float = 0.0
    open_files: int = 0
    connections: int = 0
    streams: int = 0
    jobs: int = 0
    max_jobs: int = 0
    upstreams: tuple[str, ...] = ()
    draining: bool = False


_decoder = msgspec.json.Decoder(ProcessFigures)


class Processes:
    """The figures of all processes. They last as long as a presence does."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        self.fingerprint = scripts.fingerprint
        """That of the secret of this process."""
        self._redis = scripts.redis
        self._run = scripts.run
        self._ttl = round(config.lease * 1000) + round(config.heartbeat * 1000)

    async def show(self, figures: ProcessFigures) -> None:
        """Write the figures of a process."""
        await self._run("show_process", figures.id, msgspec.json.encode(figures), self._ttl)

    async def remove(self, id: str) -> None:
        """Remove the figures of a process that has ended."""
        await self._redis.delete(keys.process(id))  # its id is removed with the next figures

    async def list(self) -> list[ProcessFigures]:
        """Figures of all live processes: front ends first, then by host and start."""
        ids = await self._redis.zrange(keys.processes, 0, -1)
        if not ids:
            return []
        values = await self._redis.mget([keys.process(id.decode()) for id in ids])
        found = [figures for value in values if value and (figures := _decode(value))]
        return sorted(found, key=lambda each: (each.role, each.host, each.started, each.id))


def _decode(value: bytes) -> ProcessFigures | None:
    """Decode figures; None if only another release can."""
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError:
        return None
