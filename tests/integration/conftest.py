"""A real Redis for every test: one server for all, emptied in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from arq.connections import ArqRedis

import settings
from deploy.redis import EmbeddedRedis
from wire import VERSION
from wire.queue import Presence, Queue
from wire.redis import connect
from wire.seal import Seal

QUICK = settings.Queue(lease=1.2, heartbeat=0.2, max_waiting_per_key=1000)
"""Leases that end soon, for tests that wait for it."""

SOON = settings.Queue(lease=0.36, heartbeat=0.1)
"""Conversations to delete count as over after half a second, for tests without a worker."""


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The server. A test that stops it starts it again."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: EmbeddedRedis, loop: object) -> AsyncIterator[ArqRedis]:
    """A client of an empty Redis."""
    client = connect(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def seal() -> Seal:
    """The secret that all roles of a test share."""
    return Seal(b"a secret of the tests")


@pytest.fixture
async def queue(redis: ArqRedis, seal: Seal) -> Queue:
    """A line with quick leases, which a front end called `front` and a worker called `w` use."""
    line = Queue(redis, seal, QUICK, settings.Upstream(max_concurrency=100))
    await line.present_front("front")
    await has_worker(redis, seal)
    return line


async def has_worker(redis: ArqRedis, seal: Seal) -> None:
    """Let the line believe for a minute that there is a worker, so that jobs may come in."""
    steady = Queue(redis, seal, settings.Queue(lease=60, heartbeat=20))
    await steady.renew(Presence("steady", VERSION, seal.fingerprint, 100), [])
