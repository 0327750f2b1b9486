"""Stalls of the event loops under hostile input, and the polite clients meanwhile.

Both are measured in the processes themselves. A stall counts by the CPU time of the loop's own
thread, too: the rest of it may be other programs on the machine, or other threads.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from benchmarks.gateway import Gateway, gateway
from benchmarks.hostile import CORPUS, Hostile
from benchmarks.question import OPENAI, answer, directive, headers
from benchmarks.watched import Stall, stalls

SLOTS = 16
TARGET = 0.05
"""Seconds."""

DEADLINE = 120.0
UNREAD = 10.0
"""Seconds for which a client that never reads stays."""

SETTLE = 0.3
"""Seconds after an input: what it leaves behind is freed, and stalls are written."""

SETTINGS = {"GATEWAY__SERVER__PROXIES": "[]"}
"""All clients are on this machine, which counts as a proxy by default: no limit of one address."""

DRIPPING = 1100
DRIPS = 30
WORDS, INTERVAL = 50, 0.02
ROLES = {"front end": "app", "worker": "workers"}


def main(names: Sequence[str] = ()) -> None:
    """Measure with each input, and print a table."""
    print(f"Longest stalls under hostile input, ms (target: under {1000 * TARGET:.0f})")
    print("by the clock, by the CPU time of the loop's thread, and polite streams that ended well")
    print(f"  {'':32}{'front end':>12}{'CPU':>6}{'worker':>12}{'CPU':>6}{'polite':>10}  answers")
    with tempfile.TemporaryDirectory(prefix="stalls-") as directory:
        noted = Path(directory)
        with gateway(
            SLOTS, simulator="benchmarks.hostile_upstream", settings=SETTINGS, stalls=noted
        ) as running:
            asyncio.run(_measure(running, noted, names))


async def _measure(running: Gateway, noted: Path, names: Sequence[str]) -> None:
    for name, hostile in CORPUS.items():
        if not names or name in names:
            await _row(running, noted, name, _send(running, hostile))
    if not names or "dripping" in names:
        await _row(running, noted, f"{DRIPPING} dripping connections", _drip(running))


async def _row(running: Gateway, noted: Path, name: str, sending: AsyncIterator[str]) -> None:
    """Measure while `sending` runs: it prepares, yields once, and then yields its outcomes."""
    await anext(sending)
    since = time.monotonic()
    ended = asyncio.Event()
    polite = asyncio.create_task(_polite(running, ended))
    await asyncio.sleep(SETTLE)
    outcomes = [outcome async for outcome in sending]
    ended.set()
    well, asked = await polite
    await asyncio.sleep(SETTLE)
    found = {role: stalls(noted / file, since) for role, file in ROLES.items()}
    figures = "".join(
        f"{_longest(s.wall for s in of):12.0f}{_longest(s.cpu for s in of):6.0f}"
        for of in found.values()
    )
    counts = ", ".join(f"{outcomes.count(o)} x {o}" for o in dict.fromkeys(outcomes))
    print(f"  {name:32}{figures}{well:>6} of {asked}  {counts}", flush=True)
    for role, of in found.items():
        worst = max(of, key=lambda stall: stall.wall, default=None)
        if worst is not None and worst.wall > TARGET:
            print(f"    {role}: {_told(worst)}", flush=True)


def _longest(seconds: Iterable[float]) -> float:
    return 1000 * max(seconds, default=0.0)


def _told(stall: Stall) -> str:
    wall, cpu, others = (1000 * s for s in (stall.wall, stall.cpu, stall.others))
    return f"{wall:.0f} ms, CPU {cpu:.0f}, other threads {others:.0f}: {stall.place}"


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session


async def _polite(running: Gateway, ended: asyncio.Event) -> tuple[int, int]:
    """Ask for one stream after the other, and return the number that ended well, and of all."""
    well = asked = 0
    async with _session() as session:
        while not asked or not ended.is_set():
            asked += 1
            body = OPENAI.body(directive(WORDS, INTERVAL))
            try:
                async with session.post(
                    running.chat, data=body, headers=headers("polite")
                ) as response:
                    well += OPENAI.text(await response.read()) == answer(WORDS)
            except (aiohttp.ClientError, TimeoutError, AssertionError, IndexError):
                continue
    return well, asked


async def _send(running: Gateway, hostile: Hostile) -> AsyncIterator[str]:
    body = await asyncio.to_thread(hostile.body)
    yield "prepared"
    ask = _read if hostile.reads else _ignore
    asking = [ask(running, body, hostile.encoding, f"hostile-{n}") for n in range(hostile.number)]
    for outcome in await asyncio.gather(*asking):
        yield outcome


async def _read(running: Gateway, body: bytes, encoding: str, bearer: str) -> str:
    fields = headers(bearer) | {"Content-Encoding": encoding}
    try:
        async with (
            _session() as session,
            session.post(running.chat, data=_slices(body), headers=fields) as response,
        ):
            end = b""
            async for piece in response.content.iter_any():
                end = (end + piece)[-300:]
            return (
                f"{response.status}{'' if b'[DONE]' in end or response.status != 200 else ' cut'}"
            )
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 1 << 20):
        yield body[at : at + (1 << 20)]


async def _ignore(running: Gateway, body: bytes, encoding: str, bearer: str) -> str:
    host, _, port = urlsplit(running.url).netloc.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1)
    fields = headers(bearer) | {"Content-Encoding": encoding, "Content-Length": str(len(body))}
    writer.write(_head(running, fields) + body)
    await asyncio.sleep(UNREAD)
    writer.transport.abort()
    return "left"


def _head(running: Gateway, fields: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {urlsplit(running.chat).path} HTTP/1.1\r\nHost: bench\r\n{lines}\r\n".encode()


async def _drip(running: Gateway) -> AsyncIterator[str]:
    """Send heads byte by byte, on many connections."""
    yield "prepared"
    host, _, port = urlsplit(running.url).netloc.partition(":")
    connecting = (asyncio.open_connection(host, int(port)) for _ in range(DRIPPING))
    connected = await asyncio.gather(*connecting)
    endings = [asyncio.create_task(_ending(reader)) for reader, _ in connected]
    for byte in _head(running, headers("dripping"))[:DRIPS]:
        for ending, (_, writer) in zip(endings, connected, strict=True):
            if not ending.done():
                writer.write(bytes([byte]))
        await asyncio.sleep(0.1)
    for ending, (_, writer) in zip(endings, connected, strict=True):
        yield await ending if ending.done() else "open"
        ending.cancel()
        writer.transport.abort()


async def _ending(reader: asyncio.StreamReader) -> str:
    """Read to the end of a connection; return the status of its answer."""
    try:
        return (await reader.read())[9:12].decode() or "closed"
    except ConnectionError:
        return "reset"
