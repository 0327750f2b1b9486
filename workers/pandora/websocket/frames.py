"""The frames of a WebSocket, in either shape, as pieces of answers: a small machine, no I/O.

Bare frames carry a piece each. Those of the reliable subprotocol are numbered: what has been
acknowledged is not sent again, and what comes again after a reconnection is dropped by its number.
Which shape it is, each frame says itself.

    new --connected--> known --connected, same id--> known
                             --connected, other id--> LostError: what was missed will not come
"""

from __future__ import annotations

import base64
from typing import Literal

import msgspec

RELIABLE = "json.reliable.webpubsub.azure.v1"
"""The subprotocol to offer."""

ACK_EVERY = 16
"""Frames between acknowledgements. The service cuts off who owes it about a thousand."""


class Piece(msgspec.Struct, frozen=True):
    """Some bytes of one answer's event stream, perhaps none; `last` if no more are to come."""

    response_id: str
    conversation_id: str
    body: bytes
    last: bool


class LostError(Exception):
    """The connection came back as another one; frames are missing."""


class _Data(msgspec.Struct, frozen=True):
    type: str = ""
    body: str = ""
    more_body: bool = True
    response_id: str | None = None
    conversation_id: str | None = None


class _Frame(_Data, frozen=True):
    """All that a frame of any shape may hold."""

    event: str = ""
    sequenceId: int | None = None  # noqa: N815 - the service's spelling
    data: msgspec.Raw = msgspec.Raw()
    connectionId: str | None = None  # noqa: N815
    reconnectionToken: str | None = None  # noqa: N815


class _Ack(msgspec.Struct, frozen=True, tag_field="type", tag="sequenceAck"):
    sequenceId: int  # noqa: N815


class Frames:
    """The frames of one connection, over as many sockets as it takes. `odd` counts the others."""

    def __init__(self) -> None:
        self.odd = 0
        self._connection: str | None = None
        self._token: str | None = None
        self._highest = 0
        self._acknowledged = 0

    def receive(self, text: str | bytes) -> Piece | None:
        """The piece in a frame; None for one that has none or has been received before.

        Raises:
            LostError: see above.
        """
        try:
            frame = msgspec.json.decode(text, type=_Frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.odd += 1
            return None
        if frame.type == "system":
            self._system(frame)
            return None
        if frame.sequenceId is not None:
            if frame.sequenceId <= self._highest:
                return None
            self._highest = frame.sequenceId
        return self._piece(frame)

    def ack(self, *, now: bool = False) -> str | None:
        """The acknowledgement to send: when enough frames wait for it, or, `now`, any does."""
        owed = self._highest - self._acknowledged
        if owed < (1 if now else ACK_EVERY):
            return None
        self._acknowledged = self._highest
        return msgspec.json.encode(_Ack(self._highest)).decode()

    def way_back(self) -> dict[str, str] | None:
        """What to add to the address to take the connection up again; None if it cannot be."""
        if self._connection is None or self._token is None:
            return None
        return {
            "awps_connection_id": self._connection,
            "awps_reconnection_token": self._token,
        }

    def _system(self, frame: _Frame) -> None:
        match frame.event:
            case "connected":
                if self._connection not in (None, frame.connectionId):
                    raise LostError
                self._connection = frame.connectionId
                self._token = frame.reconnectionToken or self._token
            case "disconnected":
                self._connection = None  # the service has forgotten it

    def _piece(self, frame: _Frame) -> Piece | None:
        data: _Data = frame
        kind: Literal["http.response.body"] = "http.response.body"
        try:
            if frame.type == "message":
                data = msgspec.json.decode(frame.data, type=_Data)
            if data.type != kind:
                self.odd += 1
                return None
            body = base64.b64decode(data.body, validate=True)
        except (ValueError, RecursionError):  # which the errors of base64 and msgspec are, too
            self.odd += 1
            return None
        return Piece(data.response_id or "", data.conversation_id or "", body, not data.more_body)
