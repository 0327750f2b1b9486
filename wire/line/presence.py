"""Presences: each live process has a key that soon expires, and which it renews again and again.

A front end's presence is empty. A worker's describes the worker, and is renewed together with its
leases (`wire.line.worker.WorkerLine.renew`). The key's name is also the channel of the process.
"""

from __future__ import annotations

import msgspec

import settings
from wire.line import keys
from wire.redis.client import Redis


class Presence(msgspec.Struct, frozen=True):
    """Description of a live worker, for the front ends. A stopping worker has a `max_jobs` of 0.

    `upstreams` are the names of those that it serves.
    """

    worker: str
    version: int
    fingerprint: str
    max_jobs: int
    upstreams: tuple[str, ...] = ("main",)


class Presences:
    """The presences of all processes. Each lasts for `ttl` ms: a lease period and a heartbeat."""

    def __init__(self, redis: Redis, fingerprint: str, config: settings.Queue) -> None:
        self._redis = redis
        self._fingerprint = fingerprint
        self.ttl = round(config.lease * 1000) + round(config.heartbeat * 1000)

    async def show_front_end(self, id: str) -> None:
        """Renew the presence of a front end."""
        await self._redis.set(keys.front_end(id), b"", px=self.ttl)

    async def remove_front_end(self, id: str) -> None:
        """Remove a front end that has ended; jobs that only it reads may be cancelled."""
        await self._redis.delete(keys.front_end(id))

    async def remove_worker(self, worker: str) -> None:
        """Remove a worker that claims no more jobs."""
        await self._redis.zrem(keys.workers(self._fingerprint), worker)
        await self._redis.delete(keys.worker(worker))

    async def workers(self) -> list[Presence]:
        """Every live worker, including those with another secret."""
        known = await self._redis.zrange(keys.fingerprints, 0, -1)
        sets = [keys.workers(fingerprint.decode()) for fingerprint in known]
        names = [name for key in sets for name in await self._redis.zrange(key, 0, -1)]
        if not names:
            return []
        values = await self._redis.mget([keys.worker(name.decode()) for name in names])
        return [msgspec.json.decode(value, type=Presence) for value in values if value]
