"""`GET /healthz` and `GET /readyz`: reasons why new requests cannot be served, and lesser ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
from sanic import HTTPResponse, Request

from app.heartbeat import Heartbeat
from app.http.json_answer import json
from app.no_keys import NoKeys
from app.upstreams import SharedUpstreams
from wire import VERSION
from wire.line.presence import Presence
from wire.line.scripts import WrongVersionError
from wire.line.snapshot import Snapshot
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS
from wire.redis.trouble import trouble

PATIENCE = 1.0
"""Seconds that Redis may take to answer."""


class HealthReport(msgspec.Struct, frozen=True):
    """Body of `/healthz` and `/readyz`."""

    status: str
    reasons: list[str] = []


class Health:
    """Health of one front end. It is not ready while `is_stopping`.

    `fingerprint` is that of its secret, `subscribed` set while it receives events from Redis,
    `no_keys` looks for gateway keys.
    """

    def __init__(
        self,
        line: UpkeepLine,
        fingerprint: str,
        heartbeat: Heartbeat,
        subscribed: asyncio.Event,
        upstreams: SharedUpstreams,
        no_keys: NoKeys,
    ) -> None:
        self.is_stopping = False
        self._line = line
        self._fingerprint = fingerprint
        self._heartbeat = heartbeat
        self._upstreams = upstreams
        self._no_keys = no_keys
        self.subscribed = subscribed

    async def alive(self, _: Request) -> HTTPResponse:
        """Answer `/healthz`."""
        return json(HealthReport("ok"))

    async def ready(self, _: Request) -> HTTPResponse:
        """Answer `/readyz`."""
        fatal, lesser = await self.troubles()
        if fatal:
            return json(HealthReport("unavailable", fatal + lesser), 503)
        return json(HealthReport("degraded" if lesser else "ok", lesser))

    async def troubles(self) -> tuple[list[str], list[str]]:
        """Return reasons why new requests cannot be served, and lesser warnings."""
        fatal: list[str] = []
        lesser: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                workers = await self._line.presences.workers()
                repairs = await self._line.repairs()
                snapshot = await self._line.snapshot()
                no_keys = await self._no_keys.warning()
        except WrongVersionError as error:
            fatal.append(str(error))
        except REDIS_ERRORS as error:
            fatal.append(f"Redis cannot be used ({self._heartbeat.error or trouble(error)})")
        else:
            ours = [worker for worker in workers if worker.fingerprint == self._fingerprint]
            fatal += self._fatal(ours)
            lesser += _lesser(ours, len(workers) - len(ours), repairs, snapshot)
            lesser += self._upstreams.troubles()
            lesser += [no_keys] if no_keys else []
        if note := self._no_keys.note:
            lesser.append(note)
        if self.is_stopping:
            fatal.append("this front end is stopping")
        return fatal, lesser

    def _fatal(self, workers: list[Presence]) -> Iterator[str]:
        if self._heartbeat.error:  # a full Redis can still be read
            yield f"Redis cannot be written to ({self._heartbeat.error})"
        if not self.subscribed.is_set():
            yield "the subscription to Redis is being made again"
        if not workers:
            yield "no worker is alive"


def _lesser(
    workers: list[Presence], foreign: int, repairs: int, snapshot: Snapshot
) -> Iterator[str]:
    if foreign:
        yield (
            f"workers with another GATEWAY_SECRET: {foreign}; they cannot unseal the jobs of this"
            " front end and claim none of them"
        )
    if snapshot.settling:
        yield (
            f"settling, {snapshot.settling:.1f} s: requests wait for that long after Redis was"
            " started, emptied or not reached"
        )
    if snapshot.open_for is not None:
        # No reason for a load balancer to send clients elsewhere: they are given a retry time.
        yield (
            "the upstream fails for everyone; requests are refused until the next attempt, in"
            f" {snapshot.open_for:.0f} s"
        )
    if snapshot.paused.get("all"):
        # Here, too, clients are given a retry time, and those that wait are served.
        yield "an operator has paused the intake of new requests"
    if upstreams := snapshot.paused.get("upstream"):
        yield f"upstreams that operators have paused: {upstreams}"
    if workers and not snapshot.served:
        yield "no worker has described its upstream yet"
    if repairs:
        yield f"the line was recently found damaged and repaired, places: {repairs}"
    if any(worker.version != VERSION for worker in workers):
        yield "some workers are of another version"
