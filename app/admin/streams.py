"""Event streams of operators: a bounded number of them, each of a bounded length.

A stream asks for the next part once its client has taken the one before, so a slow reader misses
some parts, and a reader that has stopped is cut off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from sanic import Request
from sanic.http import Http

from app.admin.access import Admitted
from app.admin.errors import TooManyStreams
from app.http.stream import SSE_HEADERS, ResponseStream
from app.openai.errors import LineUnavailable

MOST = 100
"""Streams of one front end."""

LONGEST = 3600.0
"""Seconds after which a stream ends; its client opens another one."""

SEND_TIMEOUT = 10.0
"""Seconds that a client may take to continue reading."""

RETRY = b"retry: 2000\n\n"
"""Milliseconds after which a browser opens another stream."""

HEADERS = SSE_HEADERS | {"cache-control": "no-store, no-transform"}


class Streams:
    """The open streams of one front end."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._open: set[asyncio.Timeout] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all streams, and admit no more: this front end stops."""
        self._is_closed = True
        for stream in self._open:
            stream.reschedule(0.0)

    async def send(
        self, request: Request, admitted: Admitted, parts: AsyncGenerator[bytes]
    ) -> None:
        """Answer with a stream, until the session of its reader ends.

        Raises:
            TooManyStreams: there are too many.
            LineUnavailable: this front end stops.
        """
        async with aclosing(parts):
            async with self._slot(admitted):
                response = await ResponseStream.begin(request, SEND_TIMEOUT, dict(HEADERS))
                await response.send(RETRY)
                async for part in parts:
                    await response.send(part)
            if self._is_closed and isinstance(request.stream, Http):
                request.stream.keep_alive = False  # the next one is for another process
            await response.end()

    @asynccontextmanager
    async def _slot(self, admitted: Admitted) -> AsyncIterator[None]:
        if self._is_closed:
            raise LineUnavailable("This front end is stopping.")
        if len(self._open) >= self._most:
            raise TooManyStreams
        session = admitted.session
        left = session.expires - time.time() if session else LONGEST
        ending = asyncio.timeout(min(left, LONGEST))
        self._open.add(ending)
        try:
            async with ending:
                yield
        except TimeoutError:
            if not ending.expired():
                raise
        finally:
            self._open.discard(ending)
