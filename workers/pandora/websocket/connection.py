"""One WebSocket of an account, read for as long as its frames may belong to a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlencode

import aiohttp

from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.websocket.buffers import AnswerBuffers
from workers.pandora.websocket.frames import RELIABLE, Frames, LostError
from workers.pandora.websocket.handover import Address

_HEARTBEAT = 20.0
"""Seconds between our pings, so that a dead connection is noticed."""

_MAX_FRAME = 6 * 1024 * 1024  # the largest event, in base64 and wrapped

_RECONNECT_AFTER = (0.0, 0.2, 1.0, 3.0)
"""Seconds before each attempt to reconnect, until one of them brings a piece."""

_LIFETIME = 3600.0
"""Seconds that an address without a time of its own is valid."""

_MARGIN = 30.0
"""Seconds before its address expires in which a socket gets no new answers."""

_POLICY_VIOLATION = 1008


class Socket:
    """Reads frames into its answer buffers, from `open` until it is lost for good or closed.

    Every piece is delivered once and in order. A broken connection in the reliable shape is
    resumed; if that fails, all its answers are marked as lost. `expecting` returns True while a
    POST of the account is under way.
    """

    def __init__(self, backend: Backend, address: Address, expecting: Callable[[], bool]) -> None:
        self.buffers = AnswerBuffers(expecting)
        self._backend = backend
        self._address = address
        self._expecting = expecting
        self._frames = Frames()
        self._attempts = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._expires_at = address.expires_at or time.time() + _LIFETIME

    @property
    def usable(self) -> bool:
        """True if new answers may come over it."""
        alive = self._task is not None and not self._task.done()
        return alive and not self._closing and time.time() < self._expires_at - _MARGIN

    @property
    def wanted(self) -> bool:
        """True if a job waits for frames that may come over it."""
        return not self.buffers.empty or self._expecting()

    async def open(self) -> asyncio.Task[None]:
        """Connect, and read from now on in the task that is returned.

        Raises:
            UnreachableError: the connection failed.
        """
        socket = await self._connect({})
        self._task = asyncio.create_task(self._keep(socket))
        return self._task

    def close(self) -> None:
        """Stop reading, soon."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()

    async def _connect(self, query: dict[str, str]) -> aiohttp.ClientWebSocketResponse:
        url = self._address.url
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        return await self._backend.open_websocket(
            url, protocol=RELIABLE, heartbeat=_HEARTBEAT, max_frame=_MAX_FRAME
        )

    async def _keep(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await self._listen(socket)
                await socket.close()
                socket = await self._reconnect(socket.close_code)
        except LostError:
            pass
        finally:
            self.buffers.mark_lost()
            await socket.close()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Deliver pieces until the socket closes."""
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue  # an error is followed by the end
            piece = self._frames.receive(message.data)
            buffer = None
            if piece is not None:
                self._attempts = 0
                buffer = self.buffers.deliver(piece)
            ack = self._frames.ack(now=buffer is not None and buffer.ended)
            if ack is not None:
                try:
                    await socket.send_str(ack)
                except ConnectionError:
                    continue  # there may still be frames to read
            if buffer is not None:
                await buffer.room()

    async def _reconnect(self, close_code: int | None) -> aiohttp.ClientWebSocketResponse:
        """Resume the connection. Raises LostError."""
        query = self._frames.resumption()
        if query is None or close_code == _POLICY_VIOLATION:
            raise LostError
        while self._attempts < len(_RECONNECT_AFTER) and self.wanted:
            await asyncio.sleep(_RECONNECT_AFTER[self._attempts])
            self._attempts += 1
            try:
                return await self._connect(query)
            except UnreachableError:
                pass
        raise LostError
