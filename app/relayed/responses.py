"""Form of responses. A response keeps the server's id, which is of use there alone. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.openai.answers import QueuePlace
from app.openai.errors import ApiError, ErrorBody
from app.openai.responses.answers import (
    ErrorEvent,
    ItemEvent,
    OutputMessage,
    OutputText,
    PartEvent,
    ResponseError,
    TextEvent,
)
from app.openai.responses.rendering import error_code
from app.relayed.folding import Fold, ResponseFold
from app.relayed.form import Form, Head, named
from app.relayed.model_name import with_model
from wire.events import Piece


class ResponseState(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a response as the gateway knows: it is in progress, or has failed."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "failed"] = "in_progress"
    model: str
    output: list[None] = []
    error: ResponseError | None = None
    incomplete_details: None = None
    usage: None = None


class StateEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event with the state of a response."""

    type: str
    sequence_number: int
    response: ResponseState


class _Id(msgspec.Struct, frozen=True):
    id: str = ""


class _Created(msgspec.Struct, frozen=True):
    response: _Id = _Id()


_CREATED = "response.created"
_ITEM_ADDED = "response.output_item.added"
_WITH_STATE = frozenset(
    f"response.{state}"
    for state in ("created", "queued", "in_progress", "completed", "incomplete", "failed")
)


class ResponseForm(Form):
    """Form of responses.

    All events must have the server's id of the response, or clients fail. So there is no keep-alive
    of this form before the server has begun.
    """

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._state = ResponseState(id="", created_at=head.created, model=head.model)
        self._sent = 0
        self._items = 0

    def data(self, piece: Piece) -> bytes:
        """Return an event, with the client's name for the model; note the response's id."""
        if piece.name == _CREATED:
            self._state = msgspec.structs.replace(self._state, id=_server_id(piece.data))
        self._items += piece.name == _ITEM_ADDED
        self._sent += 1
        if piece.name in _WITH_STATE:
            return with_model(piece.data, self.head.model, "response")
        return piece.data

    def fold(self) -> Fold:
        """See `Form`."""
        return ResponseFold(self.head.model)

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render the response in progress, under the number of the event before it."""
        if not self._state.id:
            return b""
        return self._event("response.in_progress", self._state, self._sent - 1)

    def error(self, failure: ApiError) -> bytes:
        """Render an error and the failed response: some clients read only the one or the other."""
        body: ErrorBody = failure.object.error
        failed = msgspec.structs.replace(
            self._state,
            id=self._state.id or self.head.id,
            status="failed",
            error=ResponseError(error_code(failure), body.message),
        )
        event = ErrorEvent(
            type="error",
            sequence_number=self._next(),
            code=body.code,
            message=body.message,
            param=body.param,
            error=body,
        )
        return named("error", event) + self._event("response.failed", failed, self._next())

    def error_text(self, text: str) -> bytes:
        """Render an error as a message of its own, which does not end."""
        if not self._state.id:
            return b""
        item = OutputMessage(id=f"msg_{self.head.id}")
        at = self._items
        added = ItemEvent(
            type=_ITEM_ADDED, sequence_number=self._next(), output_index=at, item=item
        )
        part = PartEvent(
            type="response.content_part.added",
            sequence_number=self._next(),
            item_id=item.id,
            output_index=at,
            part=OutputText(),
        )
        delta = TextEvent(
            type="response.output_text.delta",
            sequence_number=self._next(),
            item_id=item.id,
            output_index=at,
            delta=text,
        )
        return b"".join(named(event.type, event) for event in (added, part, delta))

    def _next(self) -> int:
        """Return the number of the next event."""
        self._sent += 1
        return self._sent - 1

    def _event(self, type: str, state: ResponseState, number: int) -> bytes:
        return named(type, StateEvent(type=type, sequence_number=number, response=state))


def _server_id(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Created).response.id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
