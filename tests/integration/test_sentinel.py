"""The client that follows a master, with real servers and Sentinels; and unusual answers of
Sentinels."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio.sentinel import MasterNotFoundError

from local.redis import EmbeddedRedis, free_port
from runtime.tasks import background
from settings.redis_url import SentinelUrl, redis_url
from tests.support.gateway import frozen
from tests.support.watched import WatchedRedis, watched_redis
from wire.redis.client import Redis, connect
from wire.redis.outage import REDIS_ERRORS, is_down_for_everyone
from wire.redis.sentinel import SLACK, Master, Sentinels
from wire.redis.subscription import Subscription

BACK = 8.0
"""Seconds within which a failover has to be over, for everybody."""


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    """Three Sentinels, with a password of their own, which act within a second."""
    with watched_redis(3, password="of-the-sentinels/?&") as watched:
        yield watched


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url(url))
    try:
        yield client
    finally:
        await client.aclose()


async def served(call: Callable[[], Awaitable[object]]) -> object:
    """Result of a call once it works; every failure before has to be one of REDIS_ERRORS."""
    async with asyncio.timeout(BACK):
        while True:
            with suppress(*REDIS_ERRORS):
                async with asyncio.timeout(1):
                    return await call()
            await asyncio.sleep(0.05)


async def port_of(client: Redis) -> int:
    return int((await client.info("server"))["tcp_port"])


async def test_a_client_follows_when_its_master_is_killed(watched: WatchedRedis) -> None:
    async with client_of(watched.url) as client:
        assert isinstance(client, Redis)
        await asyncio.gather(*(client.set(f"key-{n}", n) for n in range(60)))
        await client.wait(1, 1000)
        watched.master.kill()
        assert await served(lambda: client.get("key-7")) == b"7"
        assert await port_of(client) == watched.replica.port
        assert await client.set("key", "value")


async def test_a_client_leaves_a_replaced_master_although_it_is_alive(
    watched: WatchedRedis,
) -> None:
    """The former master accepts writes for eight seconds more; these writes are lost."""
    async with client_of(watched.url) as client:
        subscription = Subscription(client, "own", "news")
        heard: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()

        async def listen() -> None:
            async for message in subscription.messages():
                heard.put_nowait(message)

        async with background(listen()):
            await subscription.confirmed.wait()
            await asyncio.gather(*(client.set(f"key-{n}", n) for n in range(20)))
            watched.fail_over()
            async with asyncio.timeout(BACK):
                while await served(lambda: port_of(client)) != watched.replica.port:
                    await asyncio.sleep(0.05)
            async with client_of(watched.master.url) as former:
                role = (await former.info("replication"))["role"]
            assert role == "master", "it was left before it became a replica"
            assert await asyncio.gather(*(client.set("key", n) for n in range(20))) == [True] * 20
            while not heard.empty():
                heard.get_nowait()
            await asyncio.wait_for(subscription.confirmed.wait(), 2)
            await served(lambda: client.publish("news", "new"))
            async with asyncio.timeout(2):
                while await heard.get() != ("news", b"new"):
                    pass


async def test_a_client_follows_when_its_master_freezes_and_stays_with_the_new_one(
    watched: WatchedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = Sentinels._settle

    async def counted(sentinels: Sentinels) -> Master:
        nonlocal asked
        asked += 1
        return await ask(sentinels)

    monkeypatch.setattr(Sentinels, "_settle", counted)
    async with client_of(watched.url) as client:
        await served(lambda: client.set("key", "value"))
        with frozen(watched.master.process):
            waiting = asyncio.create_task(served(lambda: client.incr("counter")))
            assert await served(lambda: port_of(client)) == watched.replica.port
            await waiting
        asked = 0
        while asked < 2:  # each time it could have changed back
            assert await served(lambda: port_of(client)) == watched.replica.port
            await asyncio.sleep(0.05)
        assert await served(lambda: port_of(client)) == watched.replica.port


async def test_the_refusal_of_a_master_counts_only_while_it_cannot_have_been_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.monotonic()
    with watched_redis(down_after=SLACK + 1.0) as watched, monkeypatch.context() as stopped:
        stopped.setattr("wire.redis.sentinel.time", SimpleNamespace(monotonic=lambda: now))
        async with client_of(watched.url) as client:
            await client.set("key", "value")
            watched.master.kill()
            with pytest.raises(REDIS_ERRORS):  # the connection that breaks
                await client.ping()
            with pytest.raises(REDIS_ERRORS) as refused:
                await client.ping()
            assert is_down_for_everyone(refused.value)
            now += 1.05
            with pytest.raises(REDIS_ERRORS) as refused:
                await client.ping()
            assert not is_down_for_everyone(refused.value)
            stopped.undo()
            assert await served(client.ping)


def test_a_master_is_irreplaceable_for_less_than_the_sentinels_wait() -> None:
    master = Master("127.0.0.1", 6379, 0, 5.0)
    assert not master.is_irreplaceable(1.0), "it may have died long ago"
    master.alive = 10.0
    assert master.is_irreplaceable(15.0 - SLACK - 0.1)
    assert not master.is_irreplaceable(15.0 - SLACK)


class FakeSentinel:
    """Sentinel with a scripted answer."""

    def __init__(self) -> None:
        self.port = free_port()
        self.says: tuple[int | str, int] | None = (1, 0)
        """The port of the master, and the epoch; None: the master is unknown."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, one answer."""
        await reader.read(1000)
        if self.says is None:
            writer.write(b"-ERR No such master with that name\r\n")
        else:
            words = ["ip", "127.0.0.1", "port", str(self.says[0])]
            words += ["config-epoch", str(self.says[1]), "down-after-milliseconds", "5000"]
            lines = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            writer.write(f"*{len(words)}\r\n{lines}".encode())
        await reader.read()
        writer.close()


@pytest.fixture
async def fakes(loop: object, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[FakeSentinel]]:
    """Three fake Sentinels, which are asked anew every time."""
    monkeypatch.setattr("wire.redis.sentinel.PAUSE", 0)
    fakes = [FakeSentinel() for _ in range(3)]
    servers = [await asyncio.start_server(fake.answer, "127.0.0.1", fake.port) for fake in fakes]
    yield fakes
    for server in servers:
        server.close()


def sentinels(*fakes: FakeSentinel) -> Sentinels:
    return Sentinels(SentinelUrl(tuple(("127.0.0.1", fake.port) for fake in fakes), "main"))


async def test_password_and_database_are_those_of_the_master(
    fakes: list[FakeSentinel], redis: Redis, redis_server: EmbeddedRedis
) -> None:
    fakes[0].says = (redis_server.port, 0)
    address = f"127.0.0.1:{fakes[0].port}"
    await redis.config_set("requirepass", "p@ss/word")
    try:
        async with client_of(f"redis+sentinel://:p%40ss%2Fword@{address}/main/3") as client:
            await client.set("key", "value")
        assert "db3" in await redis.info("keyspace")
        async with client_of(f"redis+sentinel://:wrong@{address}/main/3") as client:
            with pytest.raises(REDIS_ERRORS):
                await client.ping()
    finally:
        await redis.config_set("requirepass", "")


async def test_a_master_that_became_a_replica_is_not_used(
    fakes: list[FakeSentinel], redis: Redis, redis_server: EmbeddedRedis
) -> None:
    fakes[0].says = (redis_server.port, 0)
    async with client_of(f"redis+sentinel://127.0.0.1:{fakes[0].port}/main") as client:
        script = client.register_script("return redis.call('INCR', 'counter')")
        await script()
        await redis.replicaof("127.0.0.1", "1")
        try:
            for _ in range(2):
                with pytest.raises(REDIS_ERRORS, match="not the master"):
                    await script()
            with pytest.raises(REDIS_ERRORS, match="not the master"):
                await client.get("counter")
        finally:
            await redis.replicaof("NO", "ONE")
        assert await script() == 2


async def test_sentinels_and_master_are_reached_over_tls(
    fakes: list[FakeSentinel], redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours, theirs = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(pump(reader, theirs), pump(ours, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    sentinel, master = FakeSentinel(), free_port()
    sentinel.says = (master, 0)
    servers = [
        await asyncio.start_server(sentinel.answer, "127.0.0.1", sentinel.port, ssl=context),
        await asyncio.start_server(relay, "127.0.0.1", master, ssl=context),
    ]
    url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main"
    async with client_of(f"{url}?ssl_ca_certs={certificate}") as client:
        assert await client.ping()
    async with client_of(url) as stranger:
        with pytest.raises(REDIS_ERRORS):
            await stranger.ping()
    for server in servers:
        server.close()


def self_signed(directory: Path) -> Path:
    """A key and its certificate, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_of_different_answers_the_one_with_the_highest_epoch_counts(
    fakes: list[FakeSentinel],
) -> None:
    one, two, _ = fakes
    two.says = (2, 7)
    for order in [(one, two), (two, one)]:
        assert (await sentinels(*order).master()).address == ("127.0.0.1", 2)


async def test_a_sentinel_with_an_old_epoch_is_ignored(fakes: list[FakeSentinel]) -> None:
    one, two, three = fakes
    for fake in fakes:
        fake.says = (2, 7)
    asked = sentinels(one, two, three)
    master = await asked.master()
    one.says, two.says, three.says = (1, 6), None, None
    assert await asked.master() is master
    two.says = (1, 6)
    assert (await asked.master()).address == ("127.0.0.1", 1), "they have been set up anew"


async def test_a_sentinel_with_an_invalid_answer_counts_as_unreachable(
    fakes: list[FakeSentinel],
) -> None:
    one, two, three = fakes
    one.says, two.says, three.says = ("no port", 9), (2, 7), (2, 7)
    assert (await sentinels(one, two, three).master()).address == ("127.0.0.1", 2)
    with pytest.raises(MasterNotFoundError):
        await sentinels(one).master()


async def test_unreachable_sentinels_do_not_mean_a_dead_redis() -> None:
    client = connect(redis_url("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main"))
    with pytest.raises(REDIS_ERRORS) as refused:
        await client.ping()
    assert not is_down_for_everyone(refused.value)
    await client.aclose()


async def test_an_unknown_master_is_logged_once(
    fakes: list[FakeSentinel], caplog: pytest.LogCaptureFixture
) -> None:
    for fake in fakes:
        fake.says = None
    asked = sentinels(*fakes)
    for _ in range(2):
        with pytest.raises(MasterNotFoundError):
            await asked.master()
    told = "no Sentinel names the master main: No such master with that name"
    assert [record.getMessage() for record in caplog.records] == [told]
