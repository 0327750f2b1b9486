"""`/v1/messages`, Anthropic's: `message_delta` has the finish, `message_stop` is the end."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from wire.events import Piece
from workers.http.sse import ServerSentEvent
from workers.openai.dialects.dialect import (
    DONE,
    FAILING,
    NULL,
    read_error,
    read_text,
    says,
)
from workers.openai.error_object import ErrorObject

_STOP = Piece(b'{"type":"message_stop"}', "message_stop")


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    message: Raw = NULL
    content_block: Raw = NULL
    delta: Raw = NULL
    error: Raw = NULL


_decode = msgspec.json.Decoder(_Event).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw] | None).decode


class Messages:
    """The `Dialect` of messages."""

    def __init__(self) -> None:
        self.model = ""
        self.said = False
        self.finished = False
        self.ended = False
        self.usage = b""

    def read(self, message: ServerSentEvent) -> Piece | ErrorObject | None:
        """See `Dialect`."""
        if message.data == DONE:
            return None  # not a word of this dialect
        event = _decode(message.data)
        kind = event.type or message.event
        if kind == "error" or says(event.error):
            return read_error(message.data)
        match kind:
            case "message_start" if not self.model:
                self.model = read_text(_fields(event.message).get("model", NULL))
            case "message_delta":
                reason = read_text(_fields(event.delta).get("stop_reason", NULL))
                if reason in FAILING:
                    return ErrorObject(kind=reason, is_json=True)
                self.finished = self.finished or bool(reason)
                self.said = self.said or self.finished
            case "message_stop":
                self.ended = True
            case "content_block_start" | "content_block_delta" if not self.said:
                self.said = _says(event.content_block) or _says(event.delta)
        if self.finished and kind.startswith("content_block"):
            return None
        return Piece(message.data, kind)

    def complete(self) -> Piece | None:
        """See `Dialect`."""
        return None if self.ended else _STOP


def _fields(value: Raw) -> dict[str, Raw]:
    return _decode_fields(value) or {}


def _says(block: Raw) -> bool:
    """True for a block or a piece of one with any content: text, thinking, or a tool's call."""
    return any(says(value) for name, value in _fields(block).items() if name != "type")
