"""A body over HTTP/1.0, as some servers send it."""

from __future__ import annotations

import asyncio

from aiohttp import web

_HEAD = b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\nContent-Type: text/event-stream\r\n\r\n"


class UntilClosed:
    """A body with neither a length nor chunks: only the close of the connection ends it."""

    def __init__(self, request: web.Request) -> None:
        assert request.transport is not None  # noqa: S101 - its handler has just begun
        self._transport: asyncio.Transport = request.transport

    async def open(self) -> None:
        """Send the head."""
        await self.write(_HEAD)

    async def write(self, data: bytes) -> None:
        """Send the next bytes."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        self._transport.write(data)

    async def end(self, data: bytes) -> None:
        """Send the last bytes and close the connection."""
        await self.write(data)
        self._transport.close()

    async def cut(self, rest: bytes) -> None:
        """Do the same in the middle, which looks no different."""
        await self.end(rest)
