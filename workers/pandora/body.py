"""The bytes of one answer's event stream, whichever way they come."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp

_TAIL_TIMEOUT = 0.5
"""Seconds that the end of a body may lag behind `[DONE]` for its connection to be kept."""


class Body(Protocol):
    """Bytes in order, each once. Must be closed, which ends the answer upstream if it goes on."""

    async def read(self) -> bytes:
        """The next bytes; b"" when they have ended, whole or broken off. Sets no deadline."""
        ...

    async def finish(self) -> None:
        """The answer is whole: come to the end of what follows it, normally nothing."""
        ...

    async def close(self) -> None:
        """Let go; closing it again does nothing more. Takes less than half a second."""
        ...


class HttpBody:
    """The body of the POST's own response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def read(self) -> bytes:
        """See `Body`."""
        return await read(self._response)

    async def finish(self) -> None:
        """Keeps the connection, if its end comes soon."""
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
        self._response.close()


async def read(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a response; b"" when it has ended, whole or broken off."""
    content = response.content
    try:
        return await content.readany()
    except (aiohttp.ClientError, OSError):
        # A broken connection makes `readany` forget what had arrived before, which may well be the
        # whole answer. No public call reads it.
        return content._read_nowait(-1)


async def read_short(response: aiohttp.ClientResponse, limit: int, timeout: float) -> bytes:
    """A body that should be small: what has come of it within the limits."""
    body = bytearray()
    try:
        async with asyncio.timeout(timeout):
            while len(body) < limit and (data := await read(response)):
                body += data
    except TimeoutError:
        pass
    return bytes(body)
