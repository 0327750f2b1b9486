"""Cost of clients that only wait: memory and CPU time, and the time that others lose by them."""

from __future__ import annotations

import asyncio
import gc
import re
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from redis.asyncio import Redis

from benchmarks.cpu import Cpu
from benchmarks.gateway import Gateway, gateway
from benchmarks.question import OPENAI, headers
from settings import Stream
from wire.line import keys

CLIENTS = (1_000, 10_000)
KEYS = 100
SLOTS = 4
JOINING = 500
"""Clients that are on their way into the line at the same time."""

SECONDS = 16.0
"""Length of the measurement: every client is sent at least one keep-alive in it."""

LEAVING = 2.0
"""Length of the measurement while all clients leave."""

AT_ONCE = 100
"""Clients that disconnect in one turn of this process' event loop."""

PROBES = 20
STEP = 0.005
GRACE, INTERVAL = Stream().grace, Stream().keepalive_interval

# Conversations that hold every slot for the whole benchmark, and hardly any events.
BUSY = "[[sim words=40 interval=20 delay=0.1]]"

SETTINGS: Mapping[str, str] = {
    "GATEWAY__SERVER__MAX_CONNECTIONS": "15000",
    "GATEWAY__SERVER__MAX_CONNECTIONS_PER_ADDRESS": "0",
    "GATEWAY__QUEUE__MAX_WAITING": "20000",
    "GATEWAY__QUEUE__MAX_WAITING_PER_KEY": "20000",
    "GATEWAY__QUEUE__MAX_WAIT": "3600",
}
_ID = re.compile(rb"x-queue-id: (\S+)", re.IGNORECASE)


def main(numbers: Sequence[int] = CLIENTS) -> None:
    """Measure with each number of clients, and print the results."""
    print(f"Clients that wait on one front end, of {KEYS} keys; keep-alive {INTERVAL:g} s")
    for clients in numbers:
        with gateway(SLOTS, settings=SETTINGS) as running:
            asyncio.run(_measure(running, clients))


async def _measure(running: Gateway, clients: int) -> None:
    redis: Redis = Redis.from_url(running.redis)
    front_end = running.parts["front end"]
    async with redis, connections() as connect:
        await asyncio.gather(*(ask(connect, running, f"busy-{n}", BUSY) for n in range(SLOTS)))
        before = front_end.memory_info().rss
        began = time.monotonic()
        waiting = await join(connect, running, clients)
        joined = time.monotonic() - began
        gc.freeze()  # or a collection here would count as time that the front end took
        await asyncio.sleep(INTERVAL)
        cpu = Cpu(running.parts)
        began, received = time.monotonic(), sum(client.pieces for client in waiting)
        health = await _health(connect, running, SECONDS, 0.1)
        seconds = time.monotonic() - began
        received = sum(client.pieces for client in waiting) - received
        used = {name: 100 * spent / seconds for name, spent in cpu.used().items()}
        memory = (front_end.memory_info().rss - before) / clients / 1024
        assert received >= 0.9 * clients * seconds / INTERVAL, f"{received} keep-alives in all"
        assert await redis.zcard(keys.waiting("chat")) == clients
        places = [await _newcomer(connect, running, n) for n in range(PROBES)]
        alone = await _leaves(redis, waiting.pop())
        meanwhile = asyncio.create_task(_health(connect, running, LEAVING, STEP))
        gone = await _all_leave(redis, waiting)
        leaving = await meanwhile
    print(f"  {clients} clients, who joined within {joined:.0f} s")
    _print("memory for each, KB", memory, 16)
    _print("CPU of the front end, %", used["front end"], 10)
    _print("CPU of Redis, %", used["Redis"], 5)
    _print("/healthz, median, ms", 1000 * statistics.median(health), 20)
    _print("/healthz, longest, ms", 1000 * max(health), 20)
    _print("place of a newcomer, median, ms", 1000 * statistics.median(places), 10)
    _print("one leaves, s", alone, 1)
    _print("all leave, s", gone, 2)
    _print("/healthz meanwhile, longest, ms", 1000 * max(leaving), 50)


def _print(name: str, value: float, target: float) -> None:
    print(f"    {name:34}{value:9.2f} (target: at most {target:g})", flush=True)


class _Client(asyncio.Protocol):
    """One connection, which counts and drops all but the first piece that it receives."""

    __slots__ = ("answered", "first", "pieces", "transport")

    def __init__(self) -> None:
        self.first = b""
        self.pieces = 0
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.first = self.first or data
        self.pieces += 1
        if not self.answered.done():
            self.answered.set_result(None)

    @property
    def job(self) -> str:
        """Id of the client's job."""
        found = _ID.search(self.first)
        assert found, f"not in the line: {self.first[:500]!r}"
        return found[1].decode()

    def leave(self) -> None:
        """Disconnect."""
        self.transport.abort()


Connect = Callable[[str, bytes], "asyncio.Task[_Client]"]


@asynccontextmanager
async def connections() -> AsyncIterator[Connect]:
    """Yield a function that connects to a URL's server, sends a request, and gets its answer."""
    loop = asyncio.get_running_loop()
    connected: list[_Client] = []

    async def connect(url: str, request: bytes) -> _Client:
        host, _, port = urlsplit(url).netloc.partition(":")
        _, client = await loop.create_connection(_Client, host, int(port))
        connected.append(client)
        client.transport.write(request)
        await client.answered
        return client

    try:
        yield lambda url, request: asyncio.ensure_future(connect(url, request))
    finally:
        for client in connected:
            client.leave()


async def ask(connect: Connect, running: Gateway, bearer: str, prompt: str) -> _Client:
    """Ask, and return the client as soon as it has the first bytes of its answer."""
    body = OPENAI.body(prompt)
    fields = {"Host": "bench", **headers(bearer), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    target = urlsplit(running.chat).path
    client = await connect(running.chat, f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
    assert client.first.startswith(b"HTTP/1.1 200 "), f"refused: {client.first[:500]!r}"
    return client


async def join(connect: Connect, running: Gateway, clients: int) -> list[_Client]:
    """Have this number of clients, of `KEYS` keys, wait in line."""
    limit = asyncio.Semaphore(JOINING)

    async def join(number: int) -> _Client:
        async with limit:
            return await ask(connect, running, f"key-{number % KEYS}", "Hello!")

    return await asyncio.gather(*(join(n) for n in range(clients)))


async def _health(connect: Connect, running: Gateway, seconds: float, pause: float) -> list[float]:
    """Return the times that `/healthz` took, again and again for `seconds`, with pauses."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        client = await connect(running.url, b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
        took.append(time.monotonic() - began)
        client.leave()
        await asyncio.sleep(pause)
    return took


async def _newcomer(connect: Connect, running: Gateway, number: int) -> float:
    """Return the time until a newcomer knows its place, without the grace before any answer."""
    began = time.monotonic()
    client = await ask(connect, running, f"newcomer-{number}", "Hello!")
    took = time.monotonic() - began - GRACE
    assert b'"position":' in client.first or b"x-queue-position" in client.first.lower()
    client.leave()
    return took


async def _leaves(redis: Redis, client: _Client) -> float:
    """Return the time in which a client that disconnects has left the line."""
    began = time.monotonic()
    client.leave()
    waiting = keys.waiting("chat")
    while await redis.zscore(waiting, client.job) is not None:  # noqa: ASYNC110 - as above
        await asyncio.sleep(STEP)
    return time.monotonic() - began


async def _all_leave(redis: Redis, clients: Sequence[_Client]) -> float:
    """Return the time in which all clients, who disconnect at once, have left the line."""
    began = time.monotonic()
    for number, client in enumerate(clients):
        client.leave()
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)  # or the other measurements would have to wait
    while await redis.zcard(keys.waiting("chat")):  # noqa: ASYNC110 - as above
        await asyncio.sleep(STEP)
    return time.monotonic() - began
