"""The WebSockets of all accounts that this process holds conversations on, shared by their jobs.

A socket is opened when an answer is handed over to it, or before the question is asked
(`prepare`), and closed when nobody has waited for anything over it for a while. Accounts are told
apart by their bearer, which stays in this process' memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import msgspec

from runtime.logs import describe_traceback
from wire.events import Failed
from workers.pandora.body import read_short
from workers.pandora.websocket.connection import Socket, UnreachableError
from workers.pandora.websocket.handover import Address, Handover, read_address
from workers.pandora.websocket.mailbox import Mail
from workers.pandora.websocket.stopping import Stops
from workers.upstream import UpstreamError

IDLE = 60.0
"""Seconds that a socket is kept which nobody needs."""

_REMEMBERED = 600.0
"""Seconds for which we believe that an account still has sockets, or still has none."""

_MOST_REMEMBERED = 10_000
_ADDRESS_BYTES = 64 * 1024

_NOWHERE = Failed(
    "upstream_error",
    "The upstream announced its answer over WebSocket without saying where.",
    "websocket_nowhere",
)
_UNREACHABLE = Failed(
    "upstream_down",
    "The upstream's WebSocket could not be reached.",
    "websocket_unreachable",
)

_log = logging.getLogger(__name__)


class _Account:
    def __init__(self) -> None:
        self.posts = 0
        self.lock = asyncio.Lock()  # one socket is opened at a time
        self.sockets: dict[str, Socket] = {}  # by user

    def expecting(self) -> bool:
        return self.posts > 0

    def find(self, address: Address | None) -> Socket | None:
        """The user's socket; that of any user if it was not said whose."""
        for user, socket in self.sockets.items():
            if socket.usable and (address is None or address.user == user):
                return socket
        return None


class SocketBody:
    """An answer that comes in frames, as a `Body`."""

    def __init__(
        self, stops: Stops, bearer: str, handover: Handover, socket: Socket, mail: Mail
    ) -> None:
        self._stops = stops
        self._bearer = bearer
        self._handover = handover
        self._socket = socket
        self._mail = mail
        self._finished = False

    async def read(self) -> bytes:
        """See `Body`."""
        return await self._mail.read()

    async def finish(self) -> None:
        """Nothing to wait for: what still comes is nobody's."""
        self._finished = True

    async def close(self) -> None:
        """Have it stopped upstream if it has not ended."""
        self._socket.mailbox.release(_id(self._handover))
        if not (self._finished or self._mail.ended):
            await self._stops.stop(self._bearer, self._handover)


class Sockets:
    """Asks under `root`, the upstream's URL up to `/backend-api`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        root: str,
        connect_timeout: float,
        idle: float = IDLE,
    ) -> None:
        self._session = session
        self._url = f"{root}/register-websocket"
        self._connect_timeout = connect_timeout
        self._idle = idle
        self._stops = Stops(session, root)
        self._accounts: dict[str, _Account] = {}
        # Bearers of accounts that have shown to be with or without sockets, and until when that
        # is believed.
        self._with: dict[str, float] = {}
        self._without: dict[str, float] = {}
        self._tasks: dict[asyncio.Task[None], Socket] = {}

    @contextmanager
    def expecting(self, bearer: str) -> Iterator[None]:
        """While a POST is under way: frames that come before its answer are kept."""
        account = self._accounts.setdefault(bearer, _Account())
        account.posts += 1
        try:
            yield
        finally:
            account.posts -= 1
            if not account.posts:
                for socket in account.sockets.values():
                    socket.mailbox.forget_early()
            self._tidy(bearer, account)

    async def prepare(self, bearer: str, *, always: bool) -> None:
        """Have a socket open, if the account has any, before its POST; within `expecting`.

        Unless `always`, only for an account that has handed over an answer lately: what is sent
        while its socket is still being opened may be lost.

        Raises nothing: whatever is wrong, the POST's answer says what can be done.
        """
        account = self._accounts[bearer]
        if not always and self._with.get(bearer, 0.0) < time.monotonic():
            return
        async with account.lock:
            if account.find(None) or self._without.get(bearer, 0.0) > time.monotonic():
                return
            try:
                address = await self._register(bearer)
                if address is not None:
                    await self._open(bearer, account, self._socket(account, address), address)
                return
            except UnreachableError as error:
                reason = str(error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = type(error).__name__
        _log.warning(
            "No WebSocket could be had before asking: %s",
            reason,
            extra={"event": "upstream_socket_not_had", "reason": reason},
        )

    async def receive(self, bearer: str, handover: Handover) -> SocketBody:
        """The answer that a POST handed over; within the POST's `expecting`.

        Raises:
            UpstreamError: its frames cannot be had. It has been stopped.
        """
        _remember(self._with, bearer)
        self._without.pop(bearer, None)
        try:
            socket, mail = await self._claim(bearer, self._accounts[bearer], handover)
        except UnreachableError as error:
            await self.stop(bearer, handover)
            _log.warning(
                "The upstream's WebSocket could not be reached: %s",
                error,
                extra={"event": "upstream_socket_unreachable", "reason": str(error)},
            )
            raise UpstreamError(_UNREACHABLE) from None
        except BaseException:
            await self.stop(bearer, handover)
            raise
        return SocketBody(self._stops, bearer, handover, socket, mail)

    async def stop(self, bearer: str, handover: Handover) -> None:
        """Stop an answer that nobody will read. Raises nothing."""
        await self._stops.stop(bearer, handover)

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._stops.aclose()
        for socket in self._tasks.values():
            socket.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _claim(
        self, bearer: str, account: _Account, handover: Handover
    ) -> tuple[Socket, Mail]:
        address = handover.address
        async with account.lock:
            socket = account.find(address)
            if socket is not None:
                return socket, socket.mailbox.claim(_id(handover))
            if address is None:
                raise UpstreamError(_NOWHERE)
            socket = self._socket(account, address)
            mail = socket.mailbox.claim(_id(handover))  # before anything can come
            await self._open(bearer, account, socket, address)
            return socket, mail

    def _socket(self, account: _Account, address: Address) -> Socket:
        return Socket(self._session, address, self._connect_timeout, account.expecting)

    async def _open(self, bearer: str, account: _Account, socket: Socket, address: Address) -> None:
        """Connect, in the place of the user's socket before, which may still serve its answers."""
        task = await socket.open()
        self._tasks[task] = socket
        account.sockets[address.user] = socket
        watch = self._watch(socket)

        def ended(task: asyncio.Task[None]) -> None:
            watch.cancel()
            del self._tasks[task]
            if account.sockets.get(address.user) is socket:
                del account.sockets[address.user]
            self._tidy(bearer, account)
            if not task.cancelled() and (error := task.exception()):
                _log.error("A WebSocket's reader met a bug: %s", describe_traceback(error))

        task.add_done_callback(ended)

    def _watch(self, socket: Socket) -> asyncio.Task[None]:
        """Close a socket that nobody has needed for a while."""

        async def watch() -> None:
            needed = time.monotonic()
            while time.monotonic() - needed < self._idle:
                await asyncio.sleep(self._idle / 4)
                if socket.wanted:
                    needed = time.monotonic()
            socket.close()

        return asyncio.create_task(watch())

    async def _register(self, bearer: str) -> Address | None:
        """Ask where the account's socket is. Raises what aiohttp raises."""
        async with (
            asyncio.timeout(self._connect_timeout),
            self._session.post(
                self._url, headers={"Authorization": f"Bearer {bearer}"}, allow_redirects=False
            ) as response,
        ):
            body = await read_short(response, _ADDRESS_BYTES, self._connect_timeout)
            if response.status == 404 or (response.status == 200 and not _is_json(body)):
                _remember(self._without, bearer)
            return read_address(body) if response.status == 200 else None

    def _tidy(self, bearer: str, account: _Account) -> None:
        if not (account.posts or account.sockets) and self._accounts.get(bearer) is account:
            del self._accounts[bearer]


def _id(handover: Handover) -> str:
    return handover.response_id or handover.conversation_id


def _remember(known: dict[str, float], bearer: str) -> None:
    if bearer not in known and len(known) >= _MOST_REMEMBERED:
        del known[next(iter(known))]
    known[bearer] = time.monotonic() + _REMEMBERED


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
