"""Answers over WebSocket: the hub that clients connect to, in both shapes of its frames.

A connection without a subprotocol gets bare frames, and what is sent while it is away is lost. One
with the reliable subprotocol gets numbered frames, which are kept until they are acknowledged and
sent again when the same connection comes back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
from aiohttp import WSMsgType, web

from simulator.counts import Counts
from simulator.errors import ErrorAnswer, storage
from simulator.script import Script, ScriptBook

RELIABLE = "json.reliable.webpubsub.azure.v1"
PATH = "/client/hubs/conversations"
_MOST_UNACKNOWLEDGED = 1000
_MOST_ADDRESSES = 10_000
_KEPT_AWAY = 30.0
_WAIT_FOR_SOCKET = 10.0
_BLOCK = re.compile(rb".*?(?:\r\n\r\n|\n\n)", re.DOTALL)

Frame = dict[str, object]


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="sequenceAck"):
    """A client has all frames up to this number."""

    sequenceId: int  # noqa: N815 - the service's spelling


class Link:
    """One client's connection, which in the reliable shape outlives its socket."""

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
        """A socket for this connection is there: greet it, and send again what it may lack."""
        self.socket, self.request = socket, request
        if not self.reliable:
            return
        self.token = uuid4().hex
        hello = {
            "type": "system",
            "event": "connected",
            "userId": user(self.bearer),
            "connectionId": self.id,
            "reconnectionToken": self.token,
        }
        await socket.send_str(json.dumps(hello))
        for _, frame in list(self._unacknowledged):
            await socket.send_str(frame)

    async def send(self, data: Frame) -> None:
        """Send a frame, or keep it for later. Raises OverflowError when too many are kept."""
        text = json.dumps(data)
        if self.reliable:
            self._sequence += 1
            group = user(self.bearer)
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
        """Close the socket's connection without a word."""
        if self.request is not None and self.request.transport is not None:
            self.request.transport.abort()
        self.socket = None


class Hub:
    """All connections, by the account they belong to."""

    def __init__(self, scripts: ScriptBook, counts: Counts) -> None:
        self._scripts = scripts
        self._counts = counts
        self._bearers: dict[str, str] = {}
        self._links: dict[str, Link] = {}
        self._arrived = asyncio.Condition()

    def register(self, bearer: str, host: str) -> dict[str, str]:
        """A new address for the account's socket; `host` is `name:port`."""
        now = datetime.now(UTC)
        group = user(bearer)
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
        link = self._link(request, bearer, reliable=reliable)
        await socket.prepare(request)
        if link is None:
            await socket.close(code=1008, message=b"The connection cannot be recovered")
            return socket
        self._counts.sockets += 1
        self._links[link.id] = link
        try:
            await link.open(request, socket)
            async with self._arrived:
                self._arrived.notify_all()
            await self._listen(link, socket)
        finally:
            self._left(link, socket)
        return socket

    async def joined(self, bearer: str) -> None:
        """Wait until the account has a socket, at most ten seconds.

        A client may connect only when the POST has told it where; nothing is said to nobody.
        """
        try:
            async with asyncio.timeout(_WAIT_FOR_SOCKET), self._arrived:
                await self._arrived.wait_for(lambda: any(self._of(bearer)))
        except TimeoutError:
            pass

    async def publish(self, bearer: str, data: Frame) -> None:
        """Send a frame to every connection of the account."""
        for link in list(self._of(bearer)):
            try:
                await link.send(data)
            except OverflowError:
                self._links.pop(link.id, None)
                link.abort()

    def drop(self, bearer: str) -> None:
        """Cut the account's sockets off; reliable connections may come back."""
        for link in list(self._of(bearer)):
            link.abort()

    async def close(self, bearer: str) -> None:
        """Close the account's sockets and forget their connections."""
        for link in list(self._of(bearer)):
            del self._links[link.id]
            if link.socket is not None:
                await link.socket.close()

    async def close_all(self) -> None:
        """The server ends."""
        for link in list(self._links.values()):
            link.abort()
        self._links.clear()

    def _of(self, bearer: str) -> Iterator[Link]:
        return (link for link in self._links.values() if link.bearer == bearer)

    def _link(self, request: web.Request, bearer: str, *, reliable: bool) -> Link | None:
        """The connection of a new socket: a new one, or the one it says it comes back to."""
        known = request.query.get("awps_connection_id")
        if known is None:
            return Link(bearer, reliable=reliable)
        link = self._links.get(known)
        token = request.query.get("awps_reconnection_token")
        if link is None or link.bearer != bearer or link.token != token:
            return None
        self._counts.reconnects += 1
        return link

    async def _listen(self, link: Link, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT or not link.reliable:
                continue
            try:
                ack = msgspec.json.decode(message.data, type=Ack)
            except (msgspec.DecodeError, UnicodeDecodeError):
                await socket.close(code=1008, message=b"Not a frame of the subprotocol")
                return
            self._counts.acks += 1
            link.acknowledge(ack.sequenceId)

    def _left(self, link: Link, socket: web.WebSocketResponse) -> None:
        if link.socket is not None and link.socket is not socket:
            return  # it has come back already, over another socket
        link.socket = None
        if not link.reliable:
            self._links.pop(link.id, None)
            return

        def forget() -> None:
            if link.socket is None:
                self._links.pop(link.id, None)

        asyncio.get_running_loop().call_later(_KEPT_AWAY, forget)


class SocketTransport:
    """One answer on its way over the account's sockets, in frames."""

    def __init__(
        self, hub: Hub, bearer: str, script: Script, conversation_id: str, response_id: str
    ) -> None:
        self._hub = hub
        self._bearer = bearer
        self._script = script
        self._conversation_id = conversation_id
        self._response_id = response_id
        self._sent = 0

    async def open(self) -> None:
        """Wait for the socket."""
        await self._hub.joined(self._bearer)

    async def write(self, data: bytes) -> None:
        """Send bytes, one block a frame unless the script cuts otherwise."""
        for piece in self._pieces(data):
            await self._frame(piece, more=True)

    async def end(self, data: bytes) -> None:
        """Send the last bytes; the last frame says so."""
        *pieces, last = self._pieces(data) or [b""]
        for piece in pieces:
            await self._frame(piece, more=True)
        await self._frame(last, more=False)

    async def cut(self, rest: bytes) -> None:
        """Send the last bytes and close the account's sockets."""
        await self.write(rest)
        await self._hub.close(self._bearer)

    def _pieces(self, data: bytes) -> list[bytes]:
        if size := self._script.frame:
            return [data[at : at + size] for at in range(0, len(data), size)]
        blocks = _BLOCK.findall(data)
        rest = data[sum(map(len, blocks)) :]
        return [*blocks, rest] if rest else blocks

    async def _frame(self, body: bytes, *, more: bool) -> None:
        if self._sent == self._script.at_frame:
            if self._script.socket == "drop":
                self._hub.drop(self._bearer)
            elif self._script.socket == "close":
                await self._hub.close(self._bearer)
        self._sent += 1
        for n in range(self._script.strangers):
            await self._hub.publish(self._bearer, _stranger(n))
        frame = _frame(body, self._response_id, self._conversation_id, more=more)
        await self._hub.publish(self._bearer, frame)


def user(bearer: str) -> str:
    """The user id of an account, which tells nothing of the bearer."""
    return f"user-{abs(hash(bearer)):x}"


def _frame(body: bytes, response_id: str, conversation_id: str, *, more: bool) -> Frame:
    return {
        "type": "http.response.body",
        "body": base64.b64encode(body).decode(),
        "more_body": more,
        "response_id": response_id,
        "conversation_id": conversation_id,
    }


def _stranger(number: int) -> Frame:
    """A frame of somebody else's answer on the same account, its end among them."""
    message: Frame = {
        "id": f"stranger-{number}",
        "author": {"role": "assistant", "name": None, "metadata": {}},
        "content": {"content_type": "text", "parts": ["This is another tab's answer."]},
        "status": "in_progress",
        "end_turn": None,
        "metadata": {},
        "recipient": "all",
    }
    body = json.dumps({"message": message, "conversation_id": "stranger", "error": None})
    text = f"data: {body}\n\n" if number % 2 == 0 else "data: [DONE]\n\n"
    return _frame(text.encode(), f"stranger-{number}", "stranger", more=number % 2 == 0)


def _base64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _refusal(error: ErrorAnswer) -> web.Response:
    return web.Response(status=error.status, body=error.body, content_type=error.content_type)
