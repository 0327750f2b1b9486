"""Transports of an answer's bytes: the POST's own response, or the account's WebSocket."""

from __future__ import annotations

import base64
import json
import re
from typing import Protocol

from aiohttp import web

from simulator.hub import Frame, Hub
from simulator.script import Script

_BLOCK = re.compile(rb".*?(?:\r\n\r\n|\n\n)", re.DOTALL)


class Transport(Protocol):
    """Destination of a body. All methods raise ConnectionError if the client has disconnected."""

    async def open(self) -> None:
        """Prepare for the first byte."""

    async def write(self, data: bytes) -> None:
        """Send the next bytes."""

    async def end(self, data: bytes) -> None:
        """Send the last bytes and end the body cleanly."""

    async def cut(self, rest: bytes) -> None:
        """Send the last bytes and close the connection in mid body."""


class HttpTransport:
    """The response of a request."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response
        self.write = response.write

    async def open(self) -> None:
        """Send the headers."""
        await self._response.prepare(self._request)

    async def end(self, data: bytes) -> None:
        """Send the last bytes and the last chunk."""
        await self._response.write_eof(data)

    async def cut(self, rest: bytes) -> None:
        """Close the connection after the written bytes, without the last chunk."""
        await self._response.write(rest)
        if self._request.transport is not None:
            self._request.transport.close()


class SocketTransport:
    """The account's sockets, over which one answer is sent in frames."""

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
        await self._hub.wait_for_socket(self._bearer)

    async def write(self, data: bytes) -> None:
        """Send bytes, one event per frame unless the script sets another size."""
        for piece in self._pieces(data):
            await self._frame(piece, more=True)

    async def end(self, data: bytes) -> None:
        """Send the last bytes, with the last frame marked as such."""
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


def _frame(body: bytes, response_id: str, conversation_id: str, *, more: bool) -> Frame:
    return {
        "type": "http.response.body",
        "body": base64.b64encode(body).decode(),
        "more_body": more,
        "response_id": response_id,
        "conversation_id": conversation_id,
    }


def _stranger(number: int) -> Frame:
    """Make a frame of another response on the same account; every second one is an end."""
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
