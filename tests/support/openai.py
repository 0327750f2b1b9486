"""A simulator of an OpenAI-compatible server in the test's own loop, and a client of bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from simulator.openai.server import serve
from simulator.openai.state import Config

FAST = "interval=0 delay=0"


class Connection:
    """One TCP connection to a server, kept open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, path: str, body: object) -> None:
        """Send a POST."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        return await self.reader.read()


class OpenAiCaller:
    """Speaks to one simulator of an OpenAI-compatible server."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    def chat(self, text: object, **more: object) -> Any:  # aiohttp's own request context
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}]} | more
        return self.http.post(f"{self.url}/v1/chat/completions", json=body)

    async def stream(self, text: object, **more: object) -> bytes:
        """Return the body of a streamed chat."""
        async with self.chat(text, stream=True, **more) as response:
            assert response.status == 200, await response.text()
            body: bytes = await response.read()
            return body

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of a GET."""
        async with self.http.get(self.url + path) as response:
            return response.status, await response.json(content_type=None)

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Return status and JSON of a POST."""
        async with self.http.post(self.url + path, json=body) as response:
            return response.status, await response.json()

    async def stats(self) -> dict[str, int]:
        """Return the counters."""
        counted: dict[str, int] = (await self.get("/simulator/stats"))[1]
        return counted

    async def until(self, fits: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """Ask for the counters until they fit."""
        async with asyncio.timeout(30):
            while not fits(stats := await self.stats()):
                await asyncio.sleep(0.01)
            return stats

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Open a TCP connection."""
        where = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def calling_openai(**config: Any) -> AsyncIterator[OpenAiCaller]:
    """Run a simulator, and a client of it."""
    async with serve(Config(**config)) as url, aiohttp.ClientSession() as http:
        yield OpenAiCaller(http, url)


def data(body: bytes) -> list[str]:
    """The data of each message of a stream."""
    lines = body.decode().replace("\r\n", "\n").split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The JSON of each message of a stream."""
    return [json.loads(each) for each in data(body) if each.startswith("{")]


def said(body: bytes) -> str:
    """The text of a streamed chat."""
    deltas = (c["delta"] for chunk in chunks(body) for c in chunk.get("choices", ()))
    return "".join(delta.get("content") or "" for delta in deltas)


def asks(directive: str, *, stream: bool = True, **more: object) -> dict[str, object]:
    """The body of a chat with a directive."""
    message = {"role": "user", "content": f"[[sim {directive}]]"}
    return {"model": "tiny", "stream": stream, "messages": [message]} | more
