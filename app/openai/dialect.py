"""A dialect of OpenAI's API in which clients chat: a decoder of requests and a renderer of answers.

Every dialect is a form of the same chat, so `app/chat.py` serves them all. They are in `chunks.py`,
`completions.py` and `responses.py`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from app.openai.answers import FormatWarning, QueuePlace, Usage
from app.openai.errors import ApiError, JobFailed
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, FinishReason
from app.openai.requests import ChatRequest
from wire.events import Event


class RenderOptions(msgspec.Struct, frozen=True):
    """Rendering options of one answer.

    `numbered`: its messages have ids. Its first `resume_after` messages are not rendered.
    `errors_as_text`: an error is part of the text, too, for clients that show nothing else.
    `legacy_calls`: a tool call is rendered in OpenAI's first dialect, as `function_call`.
    """

    include_usage: bool = False
    numbered: bool = False
    resume_after: int = 0
    errors_as_text: bool = False
    legacy_calls: bool = False


class Answer(Protocol):
    """One answer, as far as its events have been received; rendered for a stream, or whole."""

    failure: JobFailed | None

    @property
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""

    @property
    def finish(self) -> FinishReason | None:
        """Reason for which the answer has ended; None until then, and after a failure."""

    @property
    def text(self) -> str:
        """All text so far, with tool calls as the model wrote them."""

    @property
    def warning(self) -> FormatWarning | None:
        """A warning that the answer may not have the format that was asked for."""

    def add(self, events: Iterable[Event]) -> bytes:
        """Add events; return the messages that show them. After an ending, `finish` or `failure`
        is set."""

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive without text; `place` while the job is waiting."""

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""

    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream, with the usage for clients that asked for it."""

    def whole(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""


AnswerMaker = Callable[[str, str, int, AnswerReader, RenderOptions], Answer]
"""Makes an answer from its id, its model, the time, and the reader of its events."""


class DecodedRequest(msgspec.Struct, frozen=True):
    """A request as the chat that it asks for, and the maker of its answer."""

    chat: ChatRequest
    answer: AnswerMaker


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
