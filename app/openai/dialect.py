"""A dialect in which clients chat: a decoder of requests and a renderer of answers.

Every dialect is a form of the same chat, so `app/chat.py` serves them all. They are in `chunks.py`,
`completions.py`, `responses/` and `app/anthropic/`. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping

import msgspec

from app.openai.answers import FormatWarning, QueuePlace, Usage
from app.openai.errors import ApiError, JobFailed
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, FinishReason
from app.openai.requests import ChatMessage, ChatRequest
from app.openai.sse import Messages
from wire.events import Event, FormatProblem

_WARNINGS: dict[FormatProblem, str] = {
    "invalid_json": "The answer is not valid JSON: ",
    "schema_mismatch": "The answer does not match the schema in `response_format`: ",
    "not_checked": "The answer was not checked against `response_format`: ",
}


class RenderOptions(msgspec.Struct, frozen=True):
    """Rendering options of one answer.

    `numbered`: its messages have ids. Its first `resume_after` messages are not rendered.
    `errors_as_text`: an error is part of the text, too, for clients that show nothing else.
    `legacy_calls`: a tool call is rendered in OpenAI's first dialect, as `function_call`.
    `stores_items`: items are stored, if the client does not mind. `prompt_tokens`: those of the
    request, for a dialect that names them at once.
    """

    include_usage: bool = False
    numbered: bool = False
    resume_after: int = 0
    errors_as_text: bool = False
    legacy_calls: bool = False
    stores_items: bool = False
    prompt_tokens: int = 0


class Answer(ABC):
    """One answer, as far as its events have been received; rendered for a stream, or whole."""

    def __init__(self, id: str, reader: AnswerReader, options: RenderOptions) -> None:
        self.failure: JobFailed | None = None
        self._reader = reader
        self._options = options
        self._messages = Messages(id, numbered=options.numbered, after=options.resume_after)

    @property
    def finish(self) -> FinishReason | None:
        """Reason for which the answer has ended; None until then, and after a failure."""
        return self._reader.finish

    @property
    def text(self) -> str:
        """All text so far, with tool calls as the model wrote them."""
        return self._reader.text

    @property
    def warning(self) -> FormatWarning | None:
        """A warning that the answer may not have the format that was asked for."""
        if (missed := self._reader.missed) is None:
            return None
        return FormatWarning(missed.problem, _WARNINGS[missed.problem] + missed.reason)

    def ended_items(self) -> Mapping[str, ChatMessage]:
        """Return the items that have ended since the last call and are to be stored, by id."""
        return {}

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""
        return self._messages.comment(place)

    @property
    @abstractmethod
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""

    @abstractmethod
    def add(self, events: Iterable[Event]) -> bytes:
        """Add events; return the messages that show them. After an ending, `finish` or `failure`
        is set."""

    @abstractmethod
    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive without text; `place` while the job is waiting."""

    @abstractmethod
    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""

    @abstractmethod
    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream, with the usage for clients that asked for it."""

    @abstractmethod
    def whole(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""


AnswerMaker = Callable[[str, str, int, AnswerReader, RenderOptions], Answer]
"""Makes an answer from its id, its model, the time, and the reader of its events."""


class DecodedRequest(msgspec.Struct, frozen=True):
    """A request, as the maker of its chat and that of its answer.

    `references` are the ids of stored items, each with the path of its reference. `chat` needs the
    stored ones as messages; it raises ApiError. `memory` is the size of what `answer` keeps of the
    request, in bytes. `ignored` are fields that have no effect, whatever the operator wants.
    """

    chat: Callable[[Mapping[str, ChatMessage]], ChatRequest]
    answer: AnswerMaker
    references: Mapping[str, str] = {}
    memory: int = 0
    ignored: tuple[str, ...] = ()


class Dialect(msgspec.Struct, frozen=True):
    """One dialect.

    `id_prefix` begins the ids of its answers. `decode` raises BadRequest. `field` returns the
    dialect's own name for a field of a chat request, or for a path into one.
    """

    id_prefix: str
    decode: Callable[[Body], DecodedRequest]
    field: Callable[[str], str]

    def renamed(self, failure: ApiError) -> ApiError:
        """Name the field of an error as the dialect does, in its message as well."""
        if failure.param and (name := self.field(failure.param)) != failure.param:
            failure.args = (str(failure).replace(failure.param, name),)
            failure.param = name
        return failure
