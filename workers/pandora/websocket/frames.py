"""The frames of a WebSocket, in either shape, as pieces of answers: a small machine, no I/O.

Bare frames carry a piece each. Those of the reliable subprotocol are numbered: acknowledged frames
are not sent again, and frames repeated after a reconnection are dropped by their number. The shape
can be seen from each frame.

    new --connected--> known --connected, same id--> known
                             --connected, other id--> LostError: the missed frames will not come
"""

from __future__ import annotations

import base64
from typing import Literal

import msgspec

from workers.pandora.json_decoding import decode_json

RELIABLE = "json.reliable.webpubsub.azure.v1"
"""The subprotocol to offer."""

ACK_EVERY = 16
"""Frames between acknowledgements. The service disconnects a client about a thousand behind."""


class Piece(msgspec.Struct, frozen=True):
    """Some bytes of one answer's event stream, perhaps none; `last` if no more are to come."""

    response_id: str
    conversation_id: str
    body: bytes
    last: bool


class LostError(Exception):
    """The connection was replaced by another one; frames are missing."""


class _Data(msgspec.Struct, frozen=True):
    type: str = ""
    body: str = ""
    more_body: bool = True
    response_id: str | None = None
    conversation_id: str | None = None


class _Frame(_Data, frozen=True):
    """The fields of a frame of any shape."""

    event: str = ""
    sequenceId: int | None = None  # noqa: N815 - the service's spelling
    data: msgspec.Raw = msgspec.Raw()
    connectionId: str | None = None  # noqa: N815
    reconnectionToken: str | None = None  # noqa: N815


class _Ack(msgspec.Struct, frozen=True, tag_field="type", tag="sequenceAck"):
    sequenceId: int  # noqa: N815


class Frames:
    """The frames of one connection, over any number of sockets. `unreadable` counts the others."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._connection: str | None = None
        self._token: str | None = None
        self._highest = 0
        self._acknowledged = 0

    def receive(self, text: str | bytes) -> Piece | None:
        """The piece in a frame; None for a frame without one, or a repeated one.

        Raises:
            LostError: see above.
        """
        frame = decode_json(text, _Frame)
        if frame is None:
            self.unreadable += 1
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
        """The acknowledgement to send, if enough frames are unacknowledged, or, with `now`, any."""
        unacknowledged = self._highest - self._acknowledged
        if unacknowledged < (1 if now else ACK_EVERY):
            return None
        self._acknowledged = self._highest
        return msgspec.json.encode(_Ack(self._highest)).decode()

    def resumption(self) -> dict[str, str] | None:
        """The query that resumes the connection; None if it cannot be resumed."""
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
                self.unreadable += 1
                return None
            body = base64.b64decode(data.body, validate=True)
        except (ValueError, RecursionError):  # of base64 and of msgspec, too
            self.unreadable += 1
            return None
        return Piece(data.response_id or "", data.conversation_id or "", body, not data.more_body)
