"""Who is alive: a key for each process, which it writes again and again, and which soon expires.

A front end's has no content. A worker's tells of the worker, and is written together with its
leases (`wire.line.worker.WorkerLine.renew`). The key's name is also the channel on which the
process is told what concerns it.
"""

from __future__ import annotations

import msgspec

import settings
from wire.line import keys
from wire.redis.client import Redis


class Presence(msgspec.Struct, frozen=True):
    """How a live worker describes itself to the front ends. One that stops has no `max_jobs`."""

    worker: str
    version: int
    fingerprint: str
    max_jobs: int


class Presences:
    """The presences of all processes. Each lasts for `ttl` ms: a lease period and a heartbeat."""

    def __init__(self, redis: Redis, fingerprint: str, config: settings.Queue) -> None:
        self._redis = redis
        self._fingerprint = fingerprint
        self.ttl = round(config.lease * 1000) + round(config.heartbeat * 1000)

    async def show_front_end(self, id: str) -> None:
        """Say that a front end is alive."""
        await self._redis.set(keys.front_end(id), b"", px=self.ttl)

    async def remove_front_end(self, id: str) -> None:
        """Say that a front end has ended: what it left behind may go."""
        await self._redis.delete(keys.front_end(id))

    async def remove_worker(self, worker: str) -> None:
        """Say that a worker takes no more jobs."""
        await self._redis.zrem(keys.workers(self._fingerprint), worker)
        await self._redis.delete(keys.worker(worker))

    async def workers(self) -> list[Presence]:
        """Every live worker, of other secrets too."""
        known = await self._redis.zrange(keys.fingerprints, 0, -1)
        sets = [keys.workers(fingerprint.decode()) for fingerprint in known]
        names = [name for key in sets for name in await self._redis.zrange(key, 0, -1)]
        if not names:
            return []
        values = await self._redis.mget([keys.worker(name.decode()) for name in names])
        return [msgspec.json.decode(value, type=Presence) for value in values if value]
