"""One WebSocket of an account: read for as long as somebody may want what comes over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlencode

import aiohttp
import yarl

from workers.pandora.websocket.frames import RELIABLE, Frames, LostError
from workers.pandora.websocket.handover import Address
from workers.pandora.websocket.mailbox import Mailbox

_HEARTBEAT = 20.0
"""Seconds between our pings, so that a dead connection is noticed."""

_MAX_FRAME = 24 * 1024 * 1024  # the largest event, in base64 and wrapped

_COMING_BACK = (0.0, 0.2, 1.0, 3.0)
"""Seconds before each try to take the connection up again, until one brings a piece."""

_LIFETIME = 3600.0
"""Seconds that an address lasts which does not say."""

_MARGIN = 30.0
"""Seconds before its address ends in which a socket is given to no more answers."""

_POLICY_VIOLATION = 1008


class UnreachableError(Exception):
    """The socket could not be opened. Its text is the name of the reason."""


class Socket:
    """Reads frames into its mailbox, from `open` until it is lost for good or closed.

    Every piece is delivered once and in order. Broken off, a connection in the reliable shape is
    taken up again; if it cannot be, all mail in the box is lost.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        connect_timeout: float,
        expecting: Callable[[], bool],
    ) -> None:
        self.mailbox = Mailbox(expecting)
        self._session = session
        self._address = address
        self._connect_timeout = connect_timeout
        self._expecting = expecting
        self._frames = Frames()
        self._tries = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._expires_at = address.expires_at or time.time() + _LIFETIME

    @property
    def usable(self) -> bool:
        """Whether more answers may be expected over it."""
        alive = self._task is not None and not self._task.done()
        return alive and not self._closing and time.time() < self._expires_at - _MARGIN

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for something that may come over it."""
        return not self.mailbox.empty or self._expecting()

    async def open(self) -> asyncio.Task[None]:
        """Connect, and read from now on in the task that is returned.

        Raises:
            UnreachableError: no connection came about.
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
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._session.ws_connect(
                    yarl.URL(url, encoded=True),
                    protocols=(RELIABLE,),
                    heartbeat=_HEARTBEAT,
                    max_msg_size=_MAX_FRAME,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # Its name alone: the text names the address.
            raise UnreachableError(type(error).__name__) from None

    async def _keep(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await self._listen(socket)
                await socket.close()
                socket = await self._come_back(socket.close_code)
        except LostError:
            pass
        finally:
            self.mailbox.lose()
            await socket.close()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Deliver what comes until the socket closes."""
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue  # an error is followed by the end
            piece = self._frames.receive(message.data)
            mail = None
            if piece is not None:
                self._tries = 0
                mail = self.mailbox.deliver(piece)
            ack = self._frames.ack(now=mail is not None and mail.ended)
            if ack is not None:
                try:
                    await socket.send_str(ack)
                except ConnectionError:
                    continue  # there may still be something to read
            if mail is not None:
                await mail.room()

    async def _come_back(self, close_code: int | None) -> aiohttp.ClientWebSocketResponse:
        """Take the connection up again. Raises LostError."""
        query = self._frames.way_back()
        if query is None or close_code == _POLICY_VIOLATION:
            raise LostError
        while self._tries < len(_COMING_BACK) and self.wanted:
            await asyncio.sleep(_COMING_BACK[self._tries])
            self._tries += 1
            try:
                return await self._connect(query)
            except UnreachableError:
                pass
        raise LostError
