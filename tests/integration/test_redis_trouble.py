"""A Redis that cannot be used, and a Redis that can be read but not written to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

import settings
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from tests.support.line import QUICK
from tests.support.listeners import listening, untrusted
from tests.support.requests import BEARER, BODY, CHAT, messages, said
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Done, Started
from wire.redis.client import Redis, connect
from wire.redis.outage import REDIS_ERRORS, Outage
from wire.redis.trouble import address_of, trouble
from workers.arq import ArqRunner

Impair = Callable[[Redis, EmbeddedRedis], Awaitable[None]]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A server of this file's own, since its configuration is changed."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=QUICK,
        redis=settings.Redis(outage_grace=2.0),
        stream=settings.Stream(grace=0.1, keepalive_interval=0.1),
    )


async def fill(redis: Redis, server: EmbeddedRedis) -> None:
    await redis.config_set("maxmemory", 1)


async def break_disk(redis: Redis, server: EmbeddedRedis) -> None:
    (server.directory / "a_folder").mkdir(exist_ok=True)
    await redis.config_set("dbfilename", "a_folder")
    await redis.config_set("save", "3600 1")
    await redis.bgsave()
    while (await redis.info("persistence"))["rdb_last_bgsave_status"] != "err":
        await asyncio.sleep(0.01)


async def replicate(redis: Redis, server: EmbeddedRedis) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def demand_replicas(redis: Redis, server: EmbeddedRedis) -> None:
    await redis.config_set("min-replicas-to-write", 1)


@pytest.fixture
async def mended(redis: Redis) -> AsyncIterator[None]:
    """Undo everything that these tests do to the server."""
    yield
    await redis.execute_command("REPLICAOF", "NO", "ONE")
    await redis.config_set("maxmemory", 0)
    await redis.config_set("save", "")
    await redis.config_set("min-replicas-to-write", 0)
    await redis.config_set("requirepass", "")


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("impair", "word"),
    [
        (fill, "OOM"),
        (break_disk, "MISCONF"),
        (replicate, "READONLY"),
        (demand_replicas, "NOREPLICAS"),
    ],
)
async def test_a_refusal_to_write_is_named_also_in_the_error_of_a_script(
    redis: Redis, redis_server: EmbeddedRedis, impair: Impair, word: str
) -> None:
    await impair(redis, redis_server)
    with pytest.raises(RedisError) as plain:
        await redis.set("key", "value")
    with pytest.raises(RedisError) as scripted:
        await redis.eval("redis.call('SET', 'key', 'value')", 0)  # type: ignore[misc]  # redis-py: sync or async
    assert trouble(plain.value) == trouble(scripted.value)
    assert trouble(plain.value).startswith(f"{word}: ")


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://no-such-host.invalid/0", "DNS: the host name in redis.url cannot be resolved"),
        ("redis://127.0.0.1:1/0", "connection refused: no server listens there"),
        ("unix:///no/such.sock", "the Unix socket in redis.url does not exist"),
        ("redis://:wrong@127.0.0.1:PORT/0", "AUTH: the user or password in redis.url is wrong"),
        ("redis://127.0.0.1:PORT/0", "AUTH: the user or password in redis.url is wrong, missing"),
        ("redis://:right@127.0.0.1:PORT/99", "the database in redis.url does not exist"),
        ("redis://limited:right@127.0.0.1:PORT/0", "NOPERM: its user may not use a command"),
    ],
)
async def test_a_url_that_does_not_lead_to_a_usable_redis_is_named(
    redis: Redis, redis_server: EmbeddedRedis, url: str, reason: str
) -> None:
    await redis.execute_command("ACL", "SETUSER", "limited", "on", ">right", "+ping")
    await redis.config_set("requirepass", "right")
    client = connect(redis_url(url.replace("PORT", str(redis_server.port))))
    with pytest.raises(REDIS_ERRORS) as caught:
        await client.set("key", "value")
    assert trouble(caught.value).startswith(reason)
    await client.aclose()


async def test_a_redis_without_tls_that_is_asked_for_it_is_named(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of a command, and says nothing."""
    monkeypatch.setattr("wire.redis.client.TIMEOUT", 0.3)
    client = connect(redis_url(redis_server.url.replace("redis://", "rediss://")))
    with pytest.raises(REDIS_ERRORS) as caught:
        await client.ping()
    assert trouble(caught.value).startswith("TLS: no answer to the handshake")
    await client.aclose()


ANSWERS = {
    b"HTTP/1.1 400 Bad Request\r\n\r\n": "its answer is not that of a Redis",
    b"": "it closed the connection: it restarts, or is a Redis that expects TLS",
    b"-ERR max number of clients reached\r\n": "it has as many clients as it allows",
    b"-DENIED Redis is running in protected mode.\r\n": "it is in protected mode",
    b"-CLUSTERDOWN Hash slot not served\r\n": "it is a cluster",
    b"-LOADING Redis is loading the dataset in memory\r\n": "LOADING: it has just",
    b"-WRONGTYPE Operation against a key\r\n": "WRONGTYPE: another program",
    b"-NEWWORD secret\r\n": "it refused a command: NEWWORD",
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_server_that_is_no_usable_redis_is_named_with_its_address(
    loop: asyncio.AbstractEventLoop, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(logging.getLogger("test"), "do this")
    async with listening(answer) as port:
        client = connect(redis_url(f"redis://user:hunter2@127.0.0.1:{port}/3"))
        bare = {"username": None, "password": None, "db": 0, "lib_name": None, "lib_version": None}
        client.connection_pool.connection_kwargs.update(bare)  # its first command is the one below
        with outage.tolerated():
            await client.set("key", "secret")
        await client.aclose()
    assert outage.reason.startswith(ANSWERS[answer])
    [record] = caplog.records
    assert vars(record)["address"] == f"127.0.0.1:{port}/0"
    assert str(port) not in outage.reason, "which /readyz shows without a key"
    assert "hunter2" not in str(vars(record))


async def test_a_certificate_that_is_not_trusted_is_named_with_the_reason(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    async with listening(b"", untrusted(tmp_path)) as port:
        client = connect(redis_url(f"rediss://127.0.0.1:{port}/0"))
        with pytest.raises(REDIS_ERRORS) as caught:
            await client.ping()
        await client.aclose()
    reason = "TLS: its certificate is not trusted: self-signed certificate"
    assert trouble(caught.value).replace("self signed", "self-signed") == reason
    assert address_of(caught.value) == {"address": f"127.0.0.1:{port}/0"}


@pytest.mark.usefixtures("mended", "worker")
@pytest.mark.parametrize("impair", [fill, break_disk])
async def test_clients_get_an_error_soon_if_redis_refuses_to_write(
    front: Client,
    redis: Redis,
    redis_server: EmbeddedRedis,
    upstream: ScriptedUpstream,
    impair: Impair,
) -> None:
    """Their streams could be read, so nothing ended them: they got keep-alives forever."""
    more = asyncio.Event()
    upstream.script = ([Started("m"), Delta("half ")], more, [Delta("rest")], [Done("stop")])
    streamed = {**BODY, "stream": True}
    running = asyncio.create_task(front.post(CHAT, json=streamed, headers=BEARER))
    while not upstream.active:
        await asyncio.sleep(0.01)
    waiting = asyncio.create_task(front.post(CHAT, json=streamed, headers=BEARER))
    while not await redis.zcard("gateway:waiting:chat"):
        await asyncio.sleep(0.01)
    await impair(redis, redis_server)
    more.set()
    ended = messages(await running)
    assert ended[-1]["error"]["code"] == "worker_lost", "its worker says so itself"
    assert said(ended[:-1]) == "half rest", "and first what the upstream said"
    assert not waiting.done()
    assert messages(await waiting)[-1]["error"]["code"] == "line_unavailable"


@pytest.mark.usefixtures("mended", "worker")
async def test_an_answer_goes_on_if_redis_refuses_to_write_for_less_than_a_lease(
    front: Client,
    redis: Redis,
    redis_server: EmbeddedRedis,
    upstream: ScriptedUpstream,
    config: settings.Settings,
) -> None:
    more = asyncio.Event()
    upstream.script = ([Started("m"), Delta("half ")], more, [Delta("rest")], [Done("stop")])
    running = asyncio.create_task(front.post(CHAT, json=BODY, headers=BEARER))
    while not upstream.active:
        await asyncio.sleep(0.01)
    await fill(redis, redis_server)
    with pytest.raises(RedisError):
        await redis.set("key", "value")
    await redis.config_set("maxmemory", 0)
    more.set()
    assert (await running).json()["choices"][0]["message"]["content"] == "half rest"


@pytest.mark.usefixtures("worker")
async def test_an_answer_that_has_begun_goes_on_though_arq_cannot_read_its_record(
    front: Client, redis: Redis, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversation begins meanwhile, so that a first token does not wait for arq."""
    upstream.script = ([Started("m"), Delta("whole")], [Done("stop")])
    late = asyncio.Event()

    async def read_late(*_: object) -> bool:
        while not await redis.keys("gateway:log:*"):
            await asyncio.sleep(0.001)
        late.set()
        raise RedisError("the server went away")

    monkeypatch.setattr(ArqRunner, "run_claimed", read_late)
    async with asyncio.timeout(30):
        answer = await front.post(CHAT, json=BODY, headers=BEARER)
    assert late.is_set()
    assert answer.json()["choices"][0]["message"]["content"] == "whole"
