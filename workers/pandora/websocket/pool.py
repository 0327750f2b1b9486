"""The WebSockets of all accounts that this process holds conversations on, shared by their jobs.

A socket is opened when an answer is handed over to it, or before the question is asked
(`prepare`), and closed when it has been idle for a while. Accounts are identified by their bearer,
which stays in this process' memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from runtime.log_lines import describe_traceback
from wire.events import Failed
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.json_decoding import decode_json
from workers.pandora.websocket.buffers import AnswerBuffer
from workers.pandora.websocket.connection import Socket
from workers.pandora.websocket.handover import Address, Handover, read_address
from workers.pandora.websocket.stopping import Stops
from workers.upstream import UpstreamError

IDLE = 60.0
"""Seconds that an unused socket is kept."""

_REMEMBERED = 600.0
"""Seconds for which an account counts as one with sockets, or without, after it has shown that."""

_MOST_REMEMBERED = 10_000

_NOWHERE = Failed(
    "upstream_error",
    "The upstream announced its answer over WebSocket without an address. Retry the request.",
    "websocket_nowhere",
)
_UNREACHABLE = Failed(
    "upstream_down",
    "The upstream's WebSocket could not be reached. Retry the request.",
    "websocket_unreachable",
)

logger = logging.getLogger(__name__)


class _Account:
    def __init__(self) -> None:
        self.posts = 0
        self.lock = asyncio.Lock()  # one socket is opened at a time
        self.sockets: dict[str, Socket] = {}  # by user

    def expecting(self) -> bool:
        return self.posts > 0

    def find(self, address: Address | None) -> Socket | None:
        """The user's socket; that of any user without an address."""
        for user, socket in self.sockets.items():
            if socket.usable and (address is None or address.user == user):
                return socket
        return None


class _RecentBearers:
    """Bearers that were added within the last `_REMEMBERED` seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, bearer: str) -> None:
        if bearer not in self._until and len(self._until) >= _MOST_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[bearer] = time.monotonic() + _REMEMBERED

    def discard(self, bearer: str) -> None:
        self._until.pop(bearer, None)

    def __contains__(self, bearer: str) -> bool:
        return self._until.get(bearer, 0.0) >= time.monotonic()


class SocketBody:
    """An answer that comes in frames, as a `Body`."""

    def __init__(
        self, stops: Stops, bearer: str, handover: Handover, socket: Socket, buffer: AnswerBuffer
    ) -> None:
        self._stops = stops
        self._bearer = bearer
        self._handover = handover
        self._socket = socket
        self._buffer = buffer
        self._finished = False

    async def read(self) -> bytes:
        """See `Body`."""
        return await self._buffer.read()

    async def finish(self) -> None:
        """Return at once: frames that follow are ignored."""
        self._finished = True

    async def close(self) -> None:
        """Stop the answer upstream if it has not ended."""
        self._socket.buffers.release(self._handover.id)
        if not (self._finished or self._buffer.ended):
            await self._stops.stop(self._bearer, self._handover)


class Sockets:
    """The WebSockets of all accounts. To be closed by `aclose`."""

    def __init__(self, backend: Backend, idle: float = IDLE) -> None:
        self._backend = backend
        self._idle = idle
        self._stops = Stops(backend)
        self._accounts: dict[str, _Account] = {}
        self._with_sockets = _RecentBearers()
        self._without_sockets = _RecentBearers()
        self._readers: dict[asyncio.Task[None], Socket] = {}

    @contextmanager
    def expecting(self, bearer: str) -> Iterator[None]:
        """Keep frames that arrive before the response of the POST made within this context."""
        account = self._accounts.setdefault(bearer, _Account())
        account.posts += 1
        try:
            yield
        finally:
            account.posts -= 1
            if not account.posts:
                for socket in account.sockets.values():
                    socket.buffers.forget_early()
            self._tidy(bearer, account)

    async def prepare(self, bearer: str, *, always: bool) -> None:
        """Open a socket before the POST, if the account has any; within `expecting`.

        Unless `always`, only for an account that has handed over an answer recently: frames that
        are sent while its socket is still being opened may be lost.

        Raises nothing: after a failure the response of the POST shows what can be done.
        """
        account = self._accounts[bearer]
        if not (always or bearer in self._with_sockets):
            return
        async with account.lock:
            if account.find(None) or bearer in self._without_sockets:
                return
            try:
                address = await self._register(bearer)
                if address is not None:
                    await self._open(bearer, account, self._socket(account, address), address)
            except UnreachableError as error:
                logger.warning(
                    "no WebSocket could be opened before the question",
                    extra={"event": "websocket_unavailable", "reason": error.detail},
                )

    async def receive(self, bearer: str, handover: Handover) -> SocketBody:
        """The answer that a POST handed over; within the POST's `expecting`.

        Raises:
            UpstreamError: its frames cannot be received. It has been stopped.
        """
        self._with_sockets.add(bearer)
        self._without_sockets.discard(bearer)
        try:
            socket, buffer = await self._claim(bearer, self._accounts[bearer], handover)
        except UnreachableError as error:
            await self.stop(bearer, handover)
            logger.warning(
                "the upstream's WebSocket could not be reached",
                extra={"event": "upstream_socket_unreachable", "reason": error.detail},
            )
            raise UpstreamError(_UNREACHABLE) from None
        except BaseException:
            await self.stop(bearer, handover)
            raise
        return SocketBody(self._stops, bearer, handover, socket, buffer)

    async def stop(self, bearer: str, handover: Handover) -> None:
        """Stop an answer that has no reader. Raises nothing."""
        await self._stops.stop(bearer, handover)

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._stops.aclose()
        for socket in self._readers.values():
            socket.close()
        if self._readers:
            await asyncio.wait(self._readers)

    async def _claim(
        self, bearer: str, account: _Account, handover: Handover
    ) -> tuple[Socket, AnswerBuffer]:
        address = handover.address
        async with account.lock:
            socket = account.find(address)
            if socket is not None:
                return socket, socket.buffers.claim(handover.id)
            if address is None:
                raise UpstreamError(_NOWHERE)
            socket = self._socket(account, address)
            buffer = socket.buffers.claim(handover.id)  # before any frame can arrive
            await self._open(bearer, account, socket, address)
            return socket, buffer

    def _socket(self, account: _Account, address: Address) -> Socket:
        return Socket(self._backend, address, account.expecting)

    async def _open(self, bearer: str, account: _Account, socket: Socket, address: Address) -> None:
        """Connect, and replace the user's former socket, which may still serve its answers."""
        reader = await socket.open()
        self._readers[reader] = socket
        account.sockets[address.user] = socket
        idling = asyncio.create_task(self._close_when_idle(socket))

        def ended(reader: asyncio.Task[None]) -> None:
            idling.cancel()
            del self._readers[reader]
            if account.sockets.get(address.user) is socket:
                del account.sockets[address.user]
            self._tidy(bearer, account)
            if not reader.cancelled() and (error := reader.exception()):
                logger.error(
                    "a WebSocket's reader failed because of a bug: %s",
                    describe_traceback(error),
                    extra={"event": "upstream_socket_bug", "reason": type(error).__name__},
                )

        reader.add_done_callback(ended)

    async def _close_when_idle(self, socket: Socket) -> None:
        used = time.monotonic()
        while time.monotonic() - used < self._idle:
            await asyncio.sleep(self._idle / 4)
            if socket.wanted:
                used = time.monotonic()
        socket.close()

    async def _register(self, bearer: str) -> Address | None:
        """Ask for the address of the account's socket. Raises UnreachableError."""
        response = await self._backend.call(
            "POST", "/register-websocket", bearer, timeout=self._backend.connect_timeout
        )
        is_json = decode_json(response.body, msgspec.Raw) is not None
        if response.status == 404 or (response.status == 200 and not is_json):
            self._without_sockets.add(bearer)
        return read_address(response.body) if response.status == 200 else None

    def _tidy(self, bearer: str, account: _Account) -> None:
        if not (account.posts or account.sockets) and self._accounts.get(bearer) is account:
            del self._accounts[bearer]
