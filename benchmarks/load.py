"""Many streams at once, from a client that needs almost no CPU time.

Raw connections store the bytes as they arrive; parsing and checking begin when the last stream has
ended. The measurement covers the steady part: from the time when every stream has its first word to
the end of the first stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from benchmarks.cpu import Cpu
from benchmarks.question import Dialect, answer, directive, headers

DEADLINE = 60.0


@dataclass(frozen=True)
class Steady:
    """The steady part of one load.

    `cpu` is in seconds, by process; `busy` in percent of all cores, of everything on the machine.
    """

    seconds: float
    tokens: int
    cpu: Mapping[str, float]
    busy: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    def per_token(self, part: str) -> float:
        """Return the microseconds of CPU time per token."""
        return self.cpu[part] / self.tokens * 1e6


async def load(
    url: str,
    dialect: Dialect,
    parts: Mapping[str, psutil.Process],
    *,
    streams: int,
    words: int,
    interval: float,
) -> Steady:
    """Ask for all streams at once, each with a bearer of its own, and check every answer."""
    asked = [_request(url, dialect, f"bench-{n}", words, interval) for n in range(streams)]
    loop = asyncio.get_running_loop()
    host, _, port = urlsplit(url).netloc.partition(":")
    async with asyncio.timeout(DEADLINE):
        connections = [
            await loop.create_connection(lambda: _Stream(dialect), host, int(port)) for _ in asked
        ]
        open_streams = [stream for _, stream in connections]
        for (transport, _), request in zip(connections, asked, strict=True):
            transport.write(request)
        await asyncio.gather(*(stream.begun for stream in open_streams))
        psutil.cpu_percent()  # starts its interval
        cpu, began = Cpu(parts), time.monotonic()
        marks = [len(stream.pieces) for stream in open_streams]
        await asyncio.wait(
            [stream.ended for stream in open_streams], return_when=asyncio.FIRST_COMPLETED
        )
        used, seconds, busy = cpu.used(), time.monotonic() - began, psutil.cpu_percent()
        ends = [len(stream.pieces) for stream in open_streams]
        await asyncio.gather(*(stream.ended for stream in open_streams))
    expected = answer(words)
    for stream in open_streams:
        got = dialect.text(_body(b"".join(stream.pieces)))
        assert got == expected, f"a wrong answer: {got[:300]!r}"
    tokens = sum(
        dialect.words(b"".join(stream.pieces[mark:end]))
        for stream, mark, end in zip(open_streams, marks, ends, strict=True)
    )
    return Steady(seconds, tokens, used, busy)


class _Stream(asyncio.Protocol):
    """One answer, as the pieces in which it arrives."""

    def __init__(self, dialect: Dialect) -> None:
        self.pieces: list[bytes] = []
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._first_word = dialect.first_word

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if not self.begun.done() and self._first_word in b"".join(self.pieces):
            self.begun.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)
        if not self.begun.done():
            got = b"".join(self.pieces)[:300]
            self.begun.set_exception(RuntimeError(f"no answer arrived ({error}): {got!r}"))


def _request(url: str, dialect: Dialect, bearer: str, words: int, interval: float) -> bytes:
    body = dialect.body(directive(words, interval))
    target = urlsplit(url)
    lines = {
        "Host": target.netloc,
        **headers(bearer),
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _body(response: bytes) -> bytes:
    """Return the body of a raw response in chunked encoding, which must be complete."""
    head, _, rest = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), f"not answered: {response[:300]!r}"
    chunks: list[bytes] = []
    at = 0
    while True:
        start = rest.index(b"\r\n", at) + 2
        size = int(rest[at : start - 2], 16)
        if size == 0:
            return b"".join(chunks)
        chunks.append(rest[start : start + size])
        at = start + size + 2
