"""The WebSocket hub that clients connect to, with both forms of its frames.

A connection without a subprotocol gets bare frames, and those sent while it is broken are lost. One
with the reliable subprotocol gets numbered frames, which are kept until they are acknowledged and
sent again when the connection is resumed.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
from aiohttp import WSMsgType, web

from simulator.counts import Counts
from simulator.errors import ErrorAnswer, storage
from simulator.script import ScriptBook

RELIABLE = "json.reliable.webpubsub.azure.v1"
PATH = "/client/hubs/conversations"
_MOST_UNACKNOWLEDGED = 1000
_MOST_ADDRESSES = 10_000
_KEPT_AWAY = 30.0
_WAIT_FOR_SOCKET = 10.0

Frame = dict[str, object]


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="sequenceAck"):
    """Acknowledgement of all frames up to this number."""

    sequenceId: int  # noqa: N815 - the service's spelling


class Connection:
    """One client's connection. A reliable one outlives its socket."""

    def __init__(self, bearer: str, *, reliable: bool) -> None:
        self.bearer = bearer
        self.reliable = reliable
        self.id = uuid4().hex
        self.token = uuid4().hex
        self.socket: web.WebSocketResponse | None = None
        self.request: web.Request | None = None
        self._sequence = 0
        self._unacknowledged: deque[tuple[int, str]] = deque()

    async def open(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """Start to use a socket: greet it, and send the unacknowledged frames again."""
        self.socket, self.request = socket, request
        if not self.reliable:
            return
        self.token = uuid4().hex
        hello = {
            "type": "system",
            "event": "connected",
            "userId": user_id(self.bearer),
            "connectionId": self.id,
            "reconnectionToken": self.token,
        }
        await socket.send_str(json.dumps(hello))
        for _, frame in list(self._unacknowledged):
            await socket.send_str(frame)

    async def send(self, data: Frame) -> None:
        """Send a frame, or keep it for later. Raises OverflowError if too many are kept."""
        text = json.dumps(data)
        if self.reliable:
            self._sequence += 1
            group = user_id(self.bearer)
            frame: Frame = {"sequenceId": self._sequence, "type": "message", "from": "group"}
            frame |= {"fromUserId": group, "group": group, "dataType": "json", "data": data}
            text = json.dumps(frame)
            self._unacknowledged.append((self._sequence, text))
            if len(self._unacknowledged) > _MOST_UNACKNOWLEDGED:
                raise OverflowError
        if self.socket is not None:
            try:
                await self.socket.send_str(text)
            except ConnectionError:
                self.socket = None

    def acknowledge(self, sequence: int) -> None:
        """Forget the frames up to this number."""
        while self._unacknowledged and self._unacknowledged[0][0] <= sequence:
            self._unacknowledged.popleft()

    def abort(self) -> None:
        """Close the socket's connection without a close frame."""
        if self.request is not None and self.request.transport is not None:
            self.request.transport.abort()
        self.socket = None


class Hub:
    """All connections, by account."""

    def __init__(self, scripts: ScriptBook, counts: Counts) -> None:
        self._scripts = scripts
        self._counts = counts
        self._bearers: dict[str, str] = {}
        self._connections: dict[str, Connection] = {}
        self._arrived = asyncio.Condition()

    def register(self, bearer: str, host: str) -> dict[str, str]:
        """Make a new address for the account's socket; `host` is `name:port`."""
        now = datetime.now(UTC)
        group = user_id(bearer)
        claims = {
            "aud": f"http://{host}{PATH}",
            "iat": int(now.timestamp()),
            "exp": int(now.timestamp()) + 3600,
            "sub": group,
            "role": [f"webpubsub.joinLeaveGroup.{group}"],
            "webpubsub.group": [group],
            "jti": uuid4().hex,
        }
        token = ".".join((_base64({"alg": "HS256", "typ": "JWT"}), _base64(claims), "c2ln"))
        self._bearers[token] = bearer
        if len(self._bearers) > _MOST_ADDRESSES:
            del self._bearers[next(iter(self._bearers))]
        return {
            "wss_url": f"ws://{host}{PATH}?access_token={token}",
            "expires_at": (now + timedelta(hours=1)).isoformat(),
        }

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Hold one client's socket until it closes."""
        bearer = self._bearers.get(request.query.get("access_token", ""))
        if bearer is None or self._scripts.standing(bearer).socket == "refuse":
            return _refusal(storage(401, "Unauthorized"))
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        reliable = RELIABLE in [name.strip() for name in offered.split(",")]
        socket = web.WebSocketResponse(protocols=(RELIABLE,))
        connection = self._connection(request, bearer, reliable=reliable)
        await socket.prepare(request)
        if connection is None:
            await socket.close(code=1008, message=b"The connection cannot be recovered")
            return socket
        self._counts.sockets += 1
        self._connections[connection.id] = connection
        try:
            await connection.open(request, socket)
            async with self._arrived:
                self._arrived.notify_all()
            await self._listen(connection, socket)
        finally:
            self._closed(connection, socket)
        return socket

    async def wait_for_socket(self, bearer: str) -> None:
        """Wait until the account has a socket, for at most ten seconds.

        A client that has none yet connects when it has read the address in the POST's answer.
        """
        try:
            async with asyncio.timeout(_WAIT_FOR_SOCKET), self._arrived:
                await self._arrived.wait_for(lambda: any(self._of(bearer)))
        except TimeoutError:
            pass

    async def publish(self, bearer: str, data: Frame) -> None:
        """Send a frame to every connection of the account."""
        for connection in list(self._of(bearer)):
            try:
                await connection.send(data)
            except OverflowError:
                self._connections.pop(connection.id, None)
                connection.abort()

    def drop(self, bearer: str) -> None:
        """Break the account's sockets; reliable connections can be resumed."""
        for connection in list(self._of(bearer)):
            connection.abort()

    async def close(self, bearer: str) -> None:
        """Close the account's sockets and forget their connections."""
        for connection in list(self._of(bearer)):
            del self._connections[connection.id]
            if connection.socket is not None:
                await connection.socket.close()

    async def close_all(self) -> None:
        """Close all connections, at the end of the server."""
        for connection in list(self._connections.values()):
            connection.abort()
        self._connections.clear()

    def _of(self, bearer: str) -> Iterator[Connection]:
        return (
            connection for connection in self._connections.values() if connection.bearer == bearer
        )

    def _connection(
        self, request: web.Request, bearer: str, *, reliable: bool
    ) -> Connection | None:
        """Return the connection of a new socket: a new one, or the one that it resumes.

        None if that one cannot be resumed.
        """
        known = request.query.get("awps_connection_id")
        if known is None:
            return Connection(bearer, reliable=reliable)
        connection = self._connections.get(known)
        token = request.query.get("awps_reconnection_token")
        if connection is None or connection.bearer != bearer or connection.token != token:
            return None
        self._counts.reconnects += 1
        return connection

    async def _listen(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT or not connection.reliable:
                continue
            try:
                ack = msgspec.json.decode(message.data, type=Ack)
            except (msgspec.DecodeError, UnicodeDecodeError):
                await socket.close(code=1008, message=b"Not a frame of the subprotocol")
                return
            self._counts.acks += 1
            connection.acknowledge(ack.sequenceId)

    def _closed(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        if connection.socket is not None and connection.socket is not socket:
            return  # it has already been resumed over another socket
        connection.socket = None
        if not connection.reliable:
            self._connections.pop(connection.id, None)
            return

        def forget() -> None:
            if connection.socket is None:
                self._connections.pop(connection.id, None)

        asyncio.get_running_loop().call_later(_KEPT_AWAY, forget)


def user_id(bearer: str) -> str:
    """Make the user id of an account; it does not reveal the bearer."""
    return f"user-{abs(hash(bearer)):x}"


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _refusal(error: ErrorAnswer) -> web.Response:
    return web.Response(status=error.status, body=error.body, content_type=error.content_type)
