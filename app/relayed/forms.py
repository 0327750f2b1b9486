"""Forms of relayed answers, one for each dialect: what is put around the pieces of a server. Pure.

The pieces themselves are shown as the server wrote them. A chunk of chat completions or completions
arrives without its `id`, `created` and `model`, in place of which it gets the gateway's. A response
or a message keeps the server's: its id is of use there alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import msgspec

from app.anthropic.sse import error_event, ping
from app.openai.answers import Chunk, ChunkChoice, ChunkDelta, QueuePlace
from app.openai.completions import TextChoice, TextCompletion
from app.openai.errors import ApiError, ErrorBody
from app.openai.responses.answers import ErrorEvent, ResponseError
from app.openai.responses.rendering import error_code
from app.openai.sse import DONE, encode, sse_message
from app.relayed.folding import BodyFold, ChunkFold, Fold, MessageFold, ResponseFold
from wire.events import Piece
from wire.jobs import ApiPath

UNNAMED = ("", "message")
"""Names of events that need no line of their own in a stream."""


class Head(msgspec.Struct, frozen=True):
    """The gateway's id of an answer, the time, and the model that the client named."""

    id: str
    created: int
    model: str


class Form(ABC):
    """Form of one answer."""

    done = b""
    """The end of a stream that has ended well."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def data(self, piece: Piece) -> bytes:
        """Return the data of the message that shows a piece."""
        return piece.data

    @abstractmethod
    def fold(self) -> Fold:
        """Make an empty fold, for a whole answer."""

    @abstractmethod
    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive; `place` while the job is waiting. Empty for a comment instead."""

    @abstractmethod
    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""

    def error_text(self, text: str) -> bytes:
        """Render an error as a piece of the text, if the dialect's clients may need it."""
        return b""


class ChunkForm(Form):
    """Form of chat completions."""

    done = DONE

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._begin = encode(head)[:-1] + b","

    def data(self, piece: Piece) -> bytes:
        """Return a chunk with the gateway's id, the time and the client's name for the model."""
        return self._begin + piece.data[1:]

    def fold(self) -> Fold:
        """See `Form`."""
        return ChunkFold(msgspec.structs.asdict(self.head))

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a chunk without text. It has no role: the server's own chunks bring that."""
        return sse_message(self._chunk("", place))

    def error(self, failure: ApiError) -> bytes:
        """Render an error, after which the stream ends without `[DONE]`."""
        return sse_message(failure.object)

    def error_text(self, text: str) -> bytes:
        """See `Form`."""
        return sse_message(self._chunk(text, None))

    def _chunk(self, text: str, place: QueuePlace | None) -> msgspec.Struct:
        head = self.head
        return Chunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=None,
            choices=[ChunkChoice(delta=ChunkDelta(content=text))],
            queue=place or msgspec.UNSET,
        )


class CompletionForm(ChunkForm):
    """Form of completions."""

    def _chunk(self, text: str, place: QueuePlace | None) -> msgspec.Struct:
        head = self.head
        return TextCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=None,
            choices=[TextChoice(text=text, finish_reason=None)],
            queue=place or msgspec.UNSET,
        )


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


class ResponseForm(Form):
    """Form of responses.

    All events must have the server's id of the response, or clients fail. So there is no keep-alive
    of this form before the server has begun.
    """

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._state = ResponseState(id="", created_at=head.created, model=head.model)
        self._sent = 0

    def data(self, piece: Piece) -> bytes:
        """Return an event as it is; note the server's id of the response."""
        if piece.name == _CREATED:
            self._state = msgspec.structs.replace(self._state, id=_server_id(piece.data))
        self._sent += 1
        return piece.data

    def fold(self) -> Fold:
        """See `Form`."""
        return ResponseFold()

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
            sequence_number=self._sent,
            code=body.code,
            message=body.message,
            param=body.param,
            error=body,
        )
        return _named("error", event) + self._event("response.failed", failed, self._sent + 1)

    def _event(self, type: str, state: ResponseState, number: int) -> bytes:
        return _named(type, StateEvent(type=type, sequence_number=number, response=state))


class MessageForm(Form):
    """Form of Anthropic's messages."""

    def fold(self) -> Fold:
        """See `Form`."""
        return MessageFold()

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a ping."""
        return ping(place)

    def error(self, failure: ApiError) -> bytes:
        """Render an error, which is the last event."""
        return error_event(failure)


class BodyForm(Form):
    """Form of an answer that is never streamed."""

    def fold(self) -> Fold:
        """See `Form`."""
        return BodyFold()

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render nothing."""
        return b""

    def error(self, failure: ApiError) -> bytes:
        """Render nothing."""
        return b""


FORMS: dict[ApiPath, Callable[[Head], Form]] = {
    "chat/completions": ChunkForm,
    "completions": CompletionForm,
    "responses": ResponseForm,
    "messages": MessageForm,
    "messages/count_tokens": BodyForm,
    "embeddings": BodyForm,
}
"""The form of each path."""


def _server_id(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Created).response.id
    except msgspec.MsgspecError:
        return ""


def _named(name: str, event: msgspec.Struct) -> bytes:
    return f"event: {name}\n".encode() + sse_message(event)
