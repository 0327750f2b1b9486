"""How an answer's bytes travel: over the POST's own response, or over a socket (`sockets.py`)."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web


class Transport(Protocol):
    """Where a body is written to. All methods raise ConnectionError when the client is gone."""

    async def open(self) -> None:
        """Come before the first byte."""

    async def write(self, data: bytes) -> None:
        """Send the next bytes."""

    async def end(self, data: bytes) -> None:
        """Send the last bytes and end the body cleanly."""

    async def cut(self, rest: bytes) -> None:
        """Send the last bytes and close the connection in mid body."""


class HttpTransport:
    """The response of a request."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self.write = response.write

    async def open(self) -> None:
        """Send the headers."""
        await self._response.prepare(self._request)

    async def end(self, data: bytes) -> None:
        """Send the last bytes and the last chunk."""
        await self._response.write_eof(data)

    async def cut(self, rest: bytes) -> None:
        """Close: what is written still goes out, the last chunk does not."""
        await self._response.write(rest)
        if self._request.transport is not None:
            self._request.transport.close()
