"""Recorded answers of real servers, replayed by a socket in pieces, or broken off, at any byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.loopback import Exchange, Script, Server, serving

RECORDED = Path(__file__).parents[3] / "shared" / "recorded-openai"


def recorded(name: str) -> bytes:
    """Return the response of a recording, as in `llama.cpp/stream`. Skips a test without it."""
    file = RECORDED / f"{name}.response"
    if not file.is_file():
        pytest.skip(f"the recordings are not part of this repository, and {file} is not here")
    return file.read_bytes()


def played(raw: bytes, cuts: Sequence[int] = (), end: int | None = None) -> Script:
    """Answer with recorded bytes: each part between `cuts` is read before the next one is sent.

    With `end`, the connection closes after that many bytes; without, after the last one.
    """

    async def play(exchange: Exchange) -> None:
        stop = len(raw) if end is None else end
        places = [0, *(cut for cut in sorted(cuts) if cut < stop), stop]
        for begin, until in pairwise(places):
            await exchange.send_apart(raw[begin:until])
        exchange.close()

    return play


@asynccontextmanager
async def replaying(*scripts: Script) -> AsyncIterator[Server]:
    """Run a server that plays the n-th script for the n-th request; reads are counted."""
    async with asyncio.timeout(60), serving(*scripts) as server:
        with server.traffic.watched():
            yield server


def cut_places(raw: bytes) -> dict[str, list[int]]:
    """Return the positions inside each part of a response that a read may end in.

    A body without chunks has no chunk sizes, one without other characters than ASCII no halves.
    """
    body = raw.index(b"\r\n\r\n") + 4
    chunked = b"transfer-encoding: chunked" in raw[:body].lower()
    sizes = list(_chunk_sizes(raw, body)) if chunked else []
    return {
        "the status line": [1, raw.index(b"\r\n")],
        "the head": list(range(raw.index(b"\r\n") + 2, body - 3, 17)),
        "the end of the head": [body - 3, body - 2, body - 1, body],
        "a chunk's size": [at + 1 for at, line in sizes if len(line) > 1],
        "the line end of a chunk's size": [at + len(line) + 1 for at, line in sizes],
        "the line end of a chunk": [at - 1 for at, _ in sizes[1:]],
        "a line's `data: `": [at + 3 for at in _found(raw, b"data: ", body)],
        "the end of a message": [at + 1 for at in _found(raw, b"\n\n", body)],
        "a character": [at for at in range(body, len(raw)) if 0x80 <= raw[at] < 0xC0],
        "a value": [at + 4 for at in _found(raw, b'"delta"', body)],
    }


def _found(raw: bytes, text: bytes, begin: int) -> Iterator[int]:
    at = raw.find(text, begin)
    while at >= 0:
        yield at
        at = raw.find(text, at + 1)


def _chunk_sizes(raw: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the position of each chunk's size and its digits, as far as the recording goes."""
    while (end := raw.find(b"\r\n", at)) >= 0 and (line := raw[at:end]):
        yield at, line
        at = end + 2 + int(line, 16) + 2
