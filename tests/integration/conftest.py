"""A real Redis for every test: one server for all, emptied in between. A gateway on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

import settings
from app.composition import build_server
from app.http.connection import GatewayProtocol
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from store.blobs import Blobs
from store.media import Media, open_media
from tests.support.line import LASTING, has_worker
from tests.support.sanic_adapter import Client, SanicClient, new_app, started
from tests.support.scripted import ScriptedUpstream
from wire.line.scripts import note_new
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.opening import serve_pandora
from workers.worker import Worker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The server. A test that stops it starts it again."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: EmbeddedRedis, loop: object) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    client = connect(redis_url(redis_server.url))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def seal() -> Seal:
    """The secret that all roles of a test share."""
    return Seal(b"a secret of the tests")


@pytest.fixture
async def queue(redis: Redis, seal: Seal, config: settings.Settings) -> WholeLine:
    """A line used by a front end called `front` and a worker called `w`."""
    slots = settings.Upstream(max_concurrency=100)
    line = WholeLine(redis, seal, config.queue, slots)
    await line.presences.show_front_end("front")
    await has_worker(redis, seal, slots)
    return line


@pytest.fixture
def config() -> settings.Settings:
    """The settings of the gateway."""
    return settings.Settings(queue=LASTING)


@pytest.fixture
def upstream() -> ScriptedUpstream:
    """The upstream of the worker."""
    return ScriptedUpstream()


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """The store of images and files."""
    return open_media(settings.Media(), tmp_path)


@pytest.fixture
def blobs(seal: Seal) -> Blobs:
    """The store of large parts of requests."""
    return Blobs(MemoryStore(), seal, 60.0)


@pytest.fixture
async def worker(
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    upstream: ScriptedUpstream,
    config: settings.Settings,
    blobs: Blobs,
) -> AsyncIterator[Worker]:
    """A worker in the test's own loop."""
    client = connect(redis_url(redis_server.url))
    await note_new(redis_url(redis_server.url))  # or it would settle
    worker = Worker(
        "tested", client, seal, [serve_pandora("main", config, upstream)], config, blobs
    )
    main = asyncio.create_task(worker.main())
    yield worker
    worker.drain()
    await main
    await client.aclose()


@pytest.fixture
async def front(
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    config: settings.Settings,
    sanic_client: SanicClient,
    media: Media,
    blobs: Blobs,
) -> AsyncIterator[Client]:
    """A front end whose only worker takes nothing."""
    client = connect(redis_url(redis_server.url))
    app = new_app()
    await note_new(redis_url(redis_server.url))  # or it would settle
    await has_worker(redis, seal)
    build_server(config, seal, redis=client, media=media, blobs=blobs).attach(app)
    async with started(app):
        yield await sanic_client(app, protocol=GatewayProtocol, timeout=20)
    await client.aclose()


@pytest.fixture
def client(front: Client, worker: Worker) -> Client:
    """A client of a whole gateway."""
    return front
