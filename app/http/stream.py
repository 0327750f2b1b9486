"""A response in pieces, on its way to a client that may have stopped reading.

What is sent waits in the connection's buffers; when they are full, sending waits for the client. It
waits for so long and no longer: then the connection is aborted, which cancels the handler.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from sanic import Request
from sanic.response import BaseHTTPResponse

logger = logging.getLogger(__name__)

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold the tokens back
}

PIECE = 65_536
"""Bytes that are sent at once, so that a slow client that does read has time for them."""


class ResponseStream:
    """An answer or a file to one client."""

    def __init__(self, request: Request, response: BaseHTTPResponse, timeout: float) -> None:
        self._transport = cast(asyncio.Transport, request.transport)
        self._response = response
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def begin(
        cls, request: Request, timeout: float, headers: dict[str, str]
    ) -> ResponseStream:
        """Answer a request in pieces; the client may keep each of them waiting for `timeout`."""
        return cls(request, await request.respond(headers=headers), timeout)

    async def send(self, data: bytes) -> None:
        """Send some bytes; the first time, the status and headers before them."""
        if len(data) <= PIECE:
            await self._send(data)
        else:
            for at in range(0, len(data), PIECE):
                await self._send(data[at : at + PIECE])

    async def end(self) -> None:
        """Say that this was all."""
        await self._send(None)

    async def _send(self, data: bytes | None) -> None:
        # For every token, so no more than it takes: with empty buffers nothing can hold it up.
        if not self._transport.get_write_buffer_size():
            await self._response.send(data, end_stream=data is None)
            return
        timer = self._loop.call_later(self._timeout, self._cut_off)
        try:
            await self._response.send(data, end_stream=data is None)
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        logger.info("a client has stopped reading and is cut off")
        self._transport.abort()
