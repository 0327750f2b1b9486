"""The bytes of one answer's event stream, over HTTP or over a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import aiohttp

from workers.http.trouble import host_of, trouble

logger = logging.getLogger(__name__)

PIECE = 32 * 1024
"""Bytes that are read at once. Many short events are translated in steps, between which the event
loop runs; a thread, for which it would wait again and again, is left to single long ones."""

_TAIL_TIMEOUT = 0.5
"""Seconds that the end of a body may lag behind `[DONE]` for its connection to be kept."""


class Body(Protocol):
    """Bytes in order, each once. Must be closed, which ends the answer upstream if it goes on."""

    async def read(self) -> bytes:
        """The next bytes; b"" at the end, complete or broken off. Sets no deadline."""
        ...

    async def finish(self) -> None:
        """Read to the end of a complete answer: normally nothing follows."""
        ...

    async def close(self) -> None:
        """Release the connection, in less than half a second. Safe to call again."""
        ...


class HttpBody:
    """The body of the POST's own response; `job` is a name for the log."""

    def __init__(self, response: aiohttp.ClientResponse, job: str = "") -> None:
        self.headers = response.headers
        self._job = job
        self._response = response
        self._is_broken = False
        self._stop_watching = _watch_framing(response)

    async def read(self) -> bytes:
        """See `Body`."""
        try:
            return await self._response.content.read(PIECE)
        except (aiohttp.ClientError, OSError) as error:
            self._note(error)
            return salvage(self._response)

    def _note(self, error: BaseException) -> None:
        if self._is_broken:
            return
        self._is_broken = True
        logger.warning(
            "the connection to the upstream broke in the middle of an answer",
            extra={
                "event": "upstream_broke_off",
                "job": self._job,
                "reason": trouble(error),
                "address": host_of(self._response.url),
            },
        )

    async def finish(self) -> None:
        """Keep the connection, if the end of the body comes soon."""
        try:
            async with asyncio.timeout(_TAIL_TIMEOUT):
                while await self.read():
                    pass
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Close the connection, unless the body was read to its end.

        Then aiohttp has already taken the connection back.
        """
        self._stop_watching()
        self._response.close()


def _watch_framing(response: aiohttp.ClientResponse) -> Callable[[], object]:
    """Break a body off at damaged framing, such as a chunk whose size is not a number.

    aiohttp then closes the connection, but leaves the reader of the body waiting. Returns the
    function that stops watching: the connection may go on to serve others.
    """
    connection = response.connection
    protocol = connection and connection.protocol
    if protocol is None:
        return _do_nothing
    closed, content = protocol.closed, response.content

    def notice(closed: asyncio.Future[None] | None) -> None:
        if closed is not None and not closed.cancelled():
            closed.exception()  # or it would be logged as never retrieved
        if protocol.exception() and not (content.is_eof() or content.exception()):
            content.set_exception(aiohttp.ClientPayloadError("damaged framing"))

    if closed is None:
        notice(None)
        return _do_nothing
    closed.add_done_callback(notice)
    return partial(closed.remove_done_callback, notice)


def _do_nothing() -> None:
    pass


def salvage(response: aiohttp.ClientResponse) -> bytes:
    """Bytes that arrived before the connection broke and have not been read.

    `read` forgets them once the connection is broken, and they may well be the whole answer. No
    public call reads them.
    """
    return response.content._read_nowait(-1)
