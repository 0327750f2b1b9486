"""An upstream on loopback that does to each request what the test says, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import aiohttp
from aiohttp.client_proto import ResponseHandler

import settings
from store.media import Media
from tests.support import pandora
from tests.support.pandora import HANDED_OUT, MEDIA
from workers.http.session import open_session
from workers.pandora.client import Pandora

DEADLINE = 60.0

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
END_OF_BODY = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def says(text: str, *, finished: bool = False) -> bytes:
    message = {
        "id": "m1",
        "author": {"role": "assistant"},
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully" if finished else "in_progress",
        "end_turn": True if finished else None,
        "metadata": {"model_slug": "slug"},
        "recipient": "all",
    }
    return b"data: " + json.dumps({"message": message, "error": None}).encode() + b"\n\n"


def frame(data: bytes) -> bytes:
    """Bytes as one piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def refusal(
    status: int, body: bytes, *headers: str, content_type: str = "application/json"
) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Traffic:
    """The bytes that the server has sent, and what its client has noticed of them and of breaks."""

    def __init__(self) -> None:
        self.sent = 0
        self.read = 0
        self.lost = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count what the client notices for as long as the context lasts."""
        data_received = ResponseHandler.data_received
        connection_lost = ResponseHandler.connection_lost

        def received(protocol: ResponseHandler, data: bytes) -> None:
            data_received(protocol, data)
            self.read += len(data)

        def lost(protocol: ResponseHandler, error: BaseException | None) -> None:
            connection_lost(protocol, error)
            self.lost += 1

        with (
            patch.object(ResponseHandler, "data_received", received),
            patch.object(ResponseHandler, "connection_lost", lost),
        ):
            yield

    async def all_read(self) -> None:
        """Wait until the client has read everything that was sent."""
        while self.read < self.sent:
            await asyncio.sleep(0)

    async def connection_lost(self) -> None:
        """Wait until the client has noticed that a connection has ended."""
        while not self.lost:
            await asyncio.sleep(0)


class Exchange:
    """One request as the server sees it, and the means to answer it or to break off."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, traffic: Traffic
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.traffic = traffic
        self.head = b""
        self.body = b""

    async def receive(self) -> bool:
        """Read one request; False when the client has closed the connection."""
        try:
            self.head = await self._reader.readuntil(b"\r\n\r\n")
            length = sum(
                int(line.split(b":")[1])
                for line in self.head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            self.body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        self.traffic.sent += len(data)
        await self._writer.drain()

    async def send_apart(self, data: bytes) -> None:
        """Send data, and wait until the client has read it."""
        await self.send(data)
        await self.traffic.all_read()

    async def closed_by_client(self) -> None:
        try:
            assert await self._reader.read() == b""
        except ConnectionError:
            pass

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


Script = Callable[[Exchange], Awaitable[None]]


class Server:
    """Answers the n-th request by the n-th script, whatever connection it comes on."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self.url = ""
        self.connections = 0
        self.traffic = Traffic()
        self.exchanges: list[Exchange] = []
        self._scripts = list(scripts)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await (exchange := Exchange(reader, writer, self.traffic)).receive():
                self.exchanges.append(exchange)
                await self._scripts.pop(0)(exchange)
                if writer.is_closing():
                    break
        except ConnectionError:
            pass  # the client broke off
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """Await the scripts, whose clients are gone by now; a test that failed may leave one."""
        if self._tasks:
            _, waiting = await asyncio.wait(self._tasks, timeout=1.0)
            for task in waiting:
                task.cancel()


def new_pandora(session: aiohttp.ClientSession, url: str, **more: Any) -> Pandora:
    """Return a client that hands out the upstream's own addresses, unless told otherwise."""
    return pandora.new_pandora(session, url, **{"rules": HANDED_OUT, **more})


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[Server]:
    """Run a server on loopback."""
    server = Server(scripts)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


@asynccontextmanager
async def upstream(
    *scripts: Script,
    prefix: str = "",
    media: Media | None = None,
    rules: settings.Media = HANDED_OUT,
) -> AsyncIterator[tuple[Server, Pandora]]:
    async with serving(*scripts) as server, asyncio.timeout(DEADLINE), open_session() as session:
        pandora = new_pandora(
            session, server.url + "/", prefix=prefix, media=media or MEDIA, rules=rules
        )
        with server.traffic.watched():
            yield server, pandora
