"""Responses sent in pieces, to clients that may stop reading (backpressure).

Data that was sent is in the connection's buffers; when they are full, sending waits for the client,
for a limited time: then the connection is aborted, which cancels the handler.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from sanic import Request
from sanic.exceptions import RequestCancelled
from sanic.http import Http
from sanic.response import BaseHTTPResponse

from app.http.access_log import entry_of

logger = logging.getLogger(__name__)

SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",  # some proxies would compress, and so buffer
    "x-accel-buffering": "no",  # or nginx would buffer the tokens
}

PIECE = 65_536
"""Bytes that are sent at once, so that a slow client that is reading has time for them."""


class ResponseStream:
    """Answer or file on its way to one client."""

    def __init__(self, request: Request, response: BaseHTTPResponse, timeout: float) -> None:
        self._request = request
        self._transport = cast(asyncio.Transport, request.transport)
        self._response = response
        self._timeout = timeout
        self._entry = entry_of(request)
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def begin(
        cls, request: Request, timeout: float, headers: dict[str, str]
    ) -> ResponseStream:
        """Begin to answer a request; each piece may wait `timeout` seconds for the client."""
        return cls(request, await request.respond(headers=headers), timeout)

    async def send(self, data: bytes) -> None:
        """Send some bytes; the first time, the status and the headers before them."""
        self._entry.sent += len(data)
        # Runs for every token, so it does as little as possible: with empty buffers, sending cannot
        # block.
        is_free = len(data) <= PIECE and not self._transport.get_write_buffer_size()
        if is_free and self._send_chunk(data):
            return
        for at in range(0, max(len(data), 1), PIECE):
            await self._send(data[at : at + PIECE])

    def forget_headers(self) -> None:
        """Free the headers of the request and, once they are sent, of the response.

        They are several kilobytes, and thousands of clients may wait for the rest of an answer.
        """
        self._request.head = b""
        self._request.headers.clear()
        self._response.headers.clear()

    async def end(self) -> None:
        """End the response."""
        await self._send(None)

    def _send_chunk(self, data: bytes) -> bool:
        """Send a piece as Sanic does in the end, in one call instead of five that are awaited.

        Returns False, and sends nothing, unless the head of an answer in chunks has been sent.
        """
        http = self._response.stream
        if not (
            data and isinstance(http, Http) and http.response_func == http.http1_response_chunked
        ):
            return False
        if self._transport.is_closing():
            raise RequestCancelled
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    async def _send(self, data: bytes | None) -> None:
        timer = self._loop.call_later(self._timeout, self._abort)
        try:
            await self._response.send(data, end_stream=data is None)
        finally:
            timer.cancel()

    def _abort(self) -> None:
        logger.info(
            "aborting the connection of a client that stopped reading",
            extra={"event": "client_stalled"},
        )
        self._transport.abort()
