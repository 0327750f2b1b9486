"""Clients that stop reading, or read slowly, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from obstore.store import MemoryStore

import settings
from app.composition import build_server
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from store.blobs import Blobs
from store.media import open_media
from tests.support.line import LASTING, has_worker
from tests.support.requests import BODY, CHAT, messages, said
from tests.support.sanic_adapter import Client, SanicClient, new_app, started
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.events import Delta, Done, Event, Started
from wire.redis.client import Redis, connect
from wire.seal import Seal
from wire.stream.reply import Reply
from workers.opening import serve_pandora
from workers.worker import Worker

BACKLOG = 200_000
SENDING = 0.5
PAUSE = 0.01
LONG = "x" * 100_000

BEGUN: list[Event] = [Started("m")]
FLOOD: list[list[Event] | float] = [[Delta(LONG)], 0.01] * 3000
"""More than any socket takes in."""

TRICKLE: list[list[Event] | float] = [[Delta("w ")], 0.02] * 100


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=LASTING, stream=settings.Stream(max_backlog=BACKLOG, send_timeout=20.0)
    )


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream()


@pytest.fixture
async def client(
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    upstream: ScriptedUpstream,
    config: settings.Settings,
    sanic_client: SanicClient,
    tmp_path: Path,
) -> AsyncIterator[Client]:
    """A client of a whole gateway."""
    here, there = connect(redis_url(redis_server.url)), connect(redis_url(redis_server.url))
    app = new_app()
    media = open_media(settings.Media(), tmp_path)
    blobs = Blobs(MemoryStore(), seal, 60.0)
    build_server(config, seal, redis=here, media=media, blobs=blobs).attach(app)
    await has_worker(redis, seal)
    worker = Worker("tested", there, seal, [serve_pandora("main", config, upstream)], config)
    main = asyncio.create_task(worker.main())
    async with started(app):
        yield await sanic_client(app, timeout=20)
    worker.drain()
    await main
    await here.aclose()
    await there.aclose()


@contextlib.asynccontextmanager
async def asking(client: Client, bearer: str, room: int = 4096) -> AsyncIterator[socket.socket]:
    """A client that asks for a stream and reads as much as the test does."""
    body = json.dumps({**BODY, "stream": True})
    head = f"Authorization: Bearer {bearer}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with requesting(client, f"POST {CHAT}", head + body, room) as connection:
        yield connection


@contextlib.asynccontextmanager
async def requesting(
    client: Client, what: str, rest: str = "\r\n", room: int = 4096
) -> AsyncIterator[socket.socket]:
    """A connection with a request, from which nothing has been read."""
    where = urlsplit(client.make_url("/"))
    head = f"{what} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n"
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        await loop.sock_connect(connection, (where.hostname, where.port))
        await loop.sock_sendall(connection, (head + rest).encode())
        yield connection


async def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the connection ends or is cut."""
    return b"".join([piece async for piece in pieces(connection)])


async def pieces(connection: socket.socket) -> AsyncIterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
            yield piece


async def until_active(upstream: ScriptedUpstream, count: int) -> None:
    while upstream.active != count:
        await asyncio.sleep(0.01)


async def test_a_client_that_stops_reading_loses_its_slot_within_a_second_and_delays_no_other(
    client: Client, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[float] = []
    fail = Reply.fail

    def noted(reply: Reply, message: str, code: str) -> None:
        passed.append(time.monotonic())
        assert code == "slow_reader"
        assert reply.unread.backlog < BACKLOG + 5 * len(LONG)
        fail(reply, message, code)

    monkeypatch.setattr(Reply, "fail", noted)
    upstream.script = (BEGUN, *FLOOD)
    async with asking(client, "slow") as connection, asyncio.timeout(60):
        await until_active(upstream, 1)
        passed_first = asyncio.Event()
        upstream.script = (BEGUN, *TRICKLE, passed_first, [Done("stop")])
        other = asyncio.create_task(
            client.post(
                CHAT, json={**BODY, "stream": True}, headers={"authorization": "Bearer quick"}
            )
        )
        await until_active(upstream, 2)
        while not passed:
            assert upstream.active == 2, "the other stream goes on until the bound is passed"
            await asyncio.sleep(0.01)
        await until_active(upstream, 1)
        assert time.monotonic() - passed[0] < 1.0
        passed_first.set()
        upstream.script = (HELLO,)
        headers = {"authorization": "Bearer slow"}
        again = await client.post(CHAT, json=BODY, headers=headers)
        assert again.status_code == 200, "the account's only seat is free"
        assert said(messages(await other)) == "w " * 100
        told = await rest(connection)
    assert b'"code":"slow_reader"' in told[-1000:]
    assert b"[DONE]" not in told
    assert told.count(b"x") > BACKLOG


async def test_an_answer_that_floods_costs_no_other_job_of_its_worker(
    client: Client, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Its pieces were joined one by one, and leases were not renewed meanwhile."""
    upstream.script = (BEGUN, *TRICKLE, [Done("stop")])
    others = [
        asyncio.create_task(
            client.post(
                CHAT, json={**BODY, "stream": True}, headers={"authorization": f"Bearer {number}"}
            )
        )
        for number in range(3)
    ]
    async with asyncio.timeout(60):
        await until_active(upstream, 3)
        upstream.script = (BEGUN, *[[Delta("x" * 1000)]] * 60_000, [Done("stop")])
        async with asking(client, "flood"):
            for other in others:
                assert said(messages(await other)) == "w " * 100
    assert upstream.peak == 4
    assert "lease" not in caplog.text


async def until_cut_off() -> None:
    while [task for task in asyncio.all_tasks() if "connection_task" in str(task.get_coro())]:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, stream=settings.Stream(send_timeout=SENDING))],
    ids=["short"],
)
async def test_a_client_that_does_not_read_a_short_answer_is_disconnected(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), *[Delta(LONG)] * 80, Done("stop")],)
    async with asking(client, "slow") as connection, asyncio.timeout(60):
        await until_active(upstream, 1)
        await until_active(upstream, 0)
        await until_cut_off()
        told = await rest(connection)
    assert told
    assert b"[DONE]" not in told


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, stream=settings.Stream(send_timeout=SENDING))],
    ids=["short"],
)
async def test_a_client_that_does_not_read_a_file_is_disconnected(
    client: Client, tmp_path: Path
) -> None:
    """It could keep its connection, and the file, for more than an hour."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(1_000_000)

    name = await open_media(settings.Media(), tmp_path).put("files", pieces())
    async with requesting(client, f"GET /files/{name}") as connection, asyncio.timeout(10):
        assert await asyncio.get_running_loop().sock_recv(connection, 8) == b"HTTP/1.1"
        await until_cut_off()
        assert len(await rest(connection)) < 30_000_000


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, stream=settings.Stream(send_timeout=SENDING))],
    ids=["short"],
)
async def test_a_client_that_reads_slowly_gets_the_whole_answer(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), *[Delta(LONG)] * 80, Done("stop")],)
    async with asking(client, "slow", 1 << 18) as connection, asyncio.timeout(60):
        told = []
        async for piece in pieces(connection):
            told.append(piece)
            await asyncio.sleep(PAUSE)
    assert len(told) * PAUSE > 2 * SENDING, "it took longer than a message may take"
    assert b"[DONE]" in b"".join(told)[-100:]
