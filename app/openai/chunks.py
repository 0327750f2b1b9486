"""Renders a job's events as OpenAI's chunks, or collects them in one completion. Pure.

Both are made from the same events, so a streamed and a whole answer have the same text and ending.

For a client that may resume its answer, the messages are numbered by an `id:` line at their end.
Others get none, since the parsers of many bots stumble over them. The same events always give the
same messages with the same numbers, however they were batched: the first one carries the role, then
each event that shows anything has messages of its own. So for a client that resumes an answer
everything is rendered again, except the messages it has already received. Messages that are not
made from events have no number: keep-alives, errors and `[DONE]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from app.openai.answers import (
    CalledFunction,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    Completion,
    CompletionChoice,
    CompletionMessage,
    CompletionToolCall,
    FinishName,
    FormatWarning,
    QueuePlace,
    ToolCallDelta,
    Usage,
)
from app.openai.errors import AnswerLost, ApiError, JobFailed
from app.openai.reading import AnswerReader, FinishReason, Piece
from app.openai.tool_calls import ToolCall
from wire.events import Event, FormatProblem, Started

_encode = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"

_PREFIX_LENGTH = 8
_MAX_DIGITS = 9

_WARNINGS: dict[FormatProblem, str] = {
    "invalid_json": "The answer is not valid JSON: ",
    "schema_mismatch": "The answer does not match the schema in `response_format`: ",
    "not_checked": "The answer was not checked against `response_format`: ",
}


def sse_message(data: msgspec.Struct) -> bytes:
    """Render one SSE message."""
    return b"data: " + _encode(data) + b"\n\n"


def message_id_prefix(job: str) -> str:
    """Return the prefix of an answer's message ids: the first random digits of its job's id."""
    return job.rpartition("-")[2][:_PREFIX_LENGTH]


def resume_after(last_event_id: str | None, job: str) -> int:
    """Return the number of the last message that the client received; 0 without a `Last-Event-ID`.

    Raises:
        AnswerLost: the header does not name a message of this answer.
    """
    if not last_event_id:
        return 0
    tag, _, number = last_event_id.rpartition("-")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS
    if tag != message_id_prefix(job) or not is_number:
        raise AnswerLost
    return int(number)


class ChunkOptions(msgspec.Struct, frozen=True):
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


class ChatAnswer:
    """One answer to a chat request, as far as its events have been received."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        reader: AnswerReader,
        options: ChunkOptions = ChunkOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.failure: JobFailed | None = None
        self._id = id
        self._model = model
        self._created = created
        self._options = options
        self._fingerprint: str | None = None
        self._role_sent = False
        self._id_prefix = f"\nid: {message_id_prefix(id)}-".encode()
        self._number = 0
        self._reader = reader
        self._content: list[str] = []
        self._calls: list[ToolCall] = []

    @property
    def begun(self) -> bool:
        """True once the first chunk has been rendered, or skipped for a client that resumes."""
        return self._role_sent

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
        missed = self._reader.missed
        return (
            FormatWarning(missed.problem, _WARNINGS[missed.problem] + missed.reason)
            if missed
            else None
        )

    def add(self, events: Iterable[Event]) -> bytes:
        """Add events, and return the SSE messages that show them to a streaming client.

        Empty for events that this client is not shown. After an ending, `finish` or `failure` is
        set.
        """
        rendered = b""
        for event in events:
            for piece in self._reader.add(event):
                rendered += self._piece(piece)
            if self.finish is not None:
                return rendered + self._chunk(ChunkDelta(), self.finish)
            if isinstance(event, Started):
                self._fingerprint = fingerprint(event.model)
                rendered += self.role()
            elif self._reader.failed is not None:
                self.failure = JobFailed(self._reader.failed)
                rendered += self.error(self.failure)
        return rendered

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, str):
            self._content.append(piece)
            return self._chunk(ChunkDelta(content=piece))
        number = len(self._calls)
        self._calls.append(piece)
        named = CalledFunction(name=piece.name, arguments="")
        given = CalledFunction(arguments=piece.arguments)
        if self._options.legacy_calls:
            named_delta, given_delta = (
                ChunkDelta(function_call=named),
                ChunkDelta(function_call=given),
            )
        else:
            id = self._call_id(number)
            first = ToolCallDelta(index=number, id=id, type="function", function=named)
            named_delta = ChunkDelta(tool_calls=[first])
            given_delta = ChunkDelta(tool_calls=[ToolCallDelta(index=number, function=given)])
        return self._chunk(named_delta) + self._chunk(given_delta)

    def _call_id(self, number: int) -> str:
        """The same in every rendering of the answer."""
        return "call_" + hashlib.sha256(f"{self._id} {number}".encode()).hexdigest()[:24]

    def role(self) -> bytes:
        """Render the first chunk, which carries the role; empty if it has been sent."""
        if self._role_sent:
            return b""
        self._role_sent = True
        return self._chunk(ChunkDelta(role="assistant", content=""))

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a chunk without text as a keep-alive; `place` while the job is waiting."""
        chunk = self._single_choice(ChunkDelta(content=""))
        if place is not None:
            chunk = replace(chunk, queue=place)
        return self.role() + sse_message(chunk)

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream, which then ends without `[DONE]`."""
        rendered = sse_message(failure.object)
        if self._options.errors_as_text:
            text = f"\n\nError: {failure.object.error.message}"
            chunk = self._single_choice(ChunkDelta(content=text if self.text else text.lstrip()))
            rendered = self.role() + sse_message(chunk) + rendered
        return rendered

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""
        text = f"queued position={place.position} eta={place.eta}" if place else "working"
        # After an `id:` line, some official clients take a comment and an empty line for a message
        # without data, and fail on it. A single line is a comment as well.
        end = "\n" if self._options.numbered and self._role_sent else "\n\n"
        return f": {text}{end}".encode()

    def usage_chunk(self, usage: Usage) -> bytes:
        """Render the chunk after the last, for clients that asked for the usage."""
        return self._numbered(self._with([], usage))

    def _chunk(self, delta: ChunkDelta, finish: FinishReason | None = None) -> bytes:
        if not self._role_sent:
            # Whatever is rendered first, the first message carries the role.
            return self.role() + self._chunk(delta, finish)
        chunk = self._single_choice(delta, finish)
        if finish is not None and self.warning is not None:
            chunk = replace(chunk, warning=self.warning)
        return self._numbered(chunk)

    def _numbered(self, chunk: Chunk) -> bytes:
        """Render the next message; empty if the client has already received it."""
        self._number += 1
        if self._number <= self._options.resume_after:
            return b""
        if not self._options.numbered:
            return sse_message(chunk)
        return b"data: %b%b%d\n\n" % (_encode(chunk), self._id_prefix, self._number)

    def _single_choice(self, delta: ChunkDelta, finish: FinishReason | None = None) -> Chunk:
        usage = None if self._options.include_usage else msgspec.UNSET
        reason = self._name(finish) if finish else None
        return self._with([ChunkChoice(delta=delta, finish_reason=reason)], usage)

    def _name(self, finish: FinishReason) -> FinishName:
        legacy = self._options.legacy_calls and finish == "tool_calls"
        return "function_call" if legacy else finish

    def _with(self, choices: list[ChunkChoice], usage: Usage | msgspec.UnsetType | None) -> Chunk:
        return Chunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=usage,
        )

    def completion(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""
        assert self.finish is not None  # noqa: S101 - only called after `Done`
        completion = Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[
                CompletionChoice(message=self._message(), finish_reason=self._name(self.finish))
            ],
            usage=usage,
            system_fingerprint=self._fingerprint,
            warning=self.warning or msgspec.UNSET,
        )
        return _encode(completion)

    def _message(self) -> CompletionMessage:
        content = "".join(self._content)
        if not self._calls:
            return CompletionMessage(content=content)
        functions = [CalledFunction(name=c.name, arguments=c.arguments) for c in self._calls]
        if self._options.legacy_calls:
            return CompletionMessage(content=content or None, function_call=functions[0])
        calls = [
            CompletionToolCall(id=self._call_id(number), function=function)
            for number, function in enumerate(functions)
        ]
        return CompletionMessage(content=content or None, tool_calls=calls)


def fingerprint(model: str) -> str:
    """Return the `system_fingerprint`, which changes with the model behind a name."""
    return "fp_" + hashlib.sha256(model.encode()).hexdigest()[:10]
