"""`/v1/responses`: the stream ends with a response that is completed, incomplete or failed."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from wire.events import Piece
from workers.http.sse import ServerSentEvent
from workers.openai.dialects.dialect import DONE, NULL, read_error, read_text, says
from workers.openai.error_object import ErrorObject

_SILENT = (
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_summary_part.added",
)
"""Events that only announce something, and of which none is part of the answer itself."""

_ENDINGS = ("response.completed", "response.incomplete")
_FAILURES = ("response.failed", "response.cancelled")


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Raw = NULL
    response: Raw = NULL
    error: Raw = NULL


_decode = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(dict[str, Raw] | None).decode


class Responses:
    """The `Dialect` of responses. A stream that ends without its last event is broken off."""

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
        response = _response(event) if not self.model or kind in _FAILURES else {}
        if kind in _FAILURES:
            error = response.get("error")
            return read_error(error) if error is not None else ErrorObject(kind=kind, is_json=True)
        if not self.model:
            self.model = read_text(response.get("model", NULL))
        if kind in _ENDINGS:
            self.said = self.finished = self.ended = True
        elif not self.said:
            self.said = kind not in _SILENT and (event.delta is NULL or says(event.delta))
        return Piece(message.data, kind)

    def complete(self) -> Piece | None:
        """See `Dialect`."""
        return None


def _response(event: _Event) -> dict[str, Raw]:
    return _decode_response(event.response) or {}
