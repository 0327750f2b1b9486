"""Renders a job's events as OpenAI's chunks, or collects them in one completion. Pure.

Both are made from the same events, so a streamed and a whole answer have the same text and ending.
The first chunk carries the role, then each event that shows anything has chunks of its own, which
`sse.py` numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from app.openai.answers import (
    CalledCustom,
    CalledFunction,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    Completion,
    CompletionChoice,
    CompletionMessage,
    CompletionToolCall,
    FinishName,
    QueuePlace,
    ToolCallDelta,
    Usage,
)
from app.openai.dialect import Answer, DecodedRequest, Dialect, RenderOptions
from app.openai.errors import ApiError, JobFailed
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, FinishReason, Piece
from app.openai.requests import decode_chat
from app.openai.sse import DONE, encode, sse_message
from app.openai.tool_calls import ToolCall
from wire.events import Event, Started


class ChatAnswer(Answer):
    """One answer to a chat request, as far as its events have been received."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        reader: AnswerReader,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(id, reader, options)
        self._id = id
        self._model = model
        self._created = created
        self._fingerprint: str | None = None
        self._role_sent = False
        self._content: list[str] = []
        self._calls: list[ToolCall] = []

    @property
    def begun(self) -> bool:
        """True once the first chunk has been rendered, or skipped for a client that resumes."""
        return self._role_sent

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
            if type(event) is Started:
                # The first chunk may have been sent before as a keep-alive, so it never has it.
                rendered += self.role()
                self._fingerprint = fingerprint(event.model)
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
        if self._options.legacy_calls:
            named, given = _function_pieces(piece)
            deltas = [ChunkDelta(function_call=named), ChunkDelta(function_call=given)]
        else:
            calls = _call_deltas(piece, number, self._call_id(number))
            deltas = [ChunkDelta(tool_calls=[call]) for call in calls]
        return b"".join(map(self._chunk, deltas))

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

    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream, with the usage for clients that asked for it."""
        last = self._messages.next(self._with([], usage)) if usage else b""
        return last + DONE

    def _chunk(self, delta: ChunkDelta, finish: FinishReason | None = None) -> bytes:
        if not self._role_sent:
            # Whatever is rendered first, the first message carries the role.
            return self.role() + self._chunk(delta, finish)
        chunk = self._single_choice(delta, finish)
        if finish is not None and self.warning is not None:
            chunk = replace(chunk, warning=self.warning)
        return self._messages.next(chunk)

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

    def whole(self, usage: Usage) -> bytes:
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
        return encode(completion)

    def _message(self) -> CompletionMessage:
        content = "".join(self._content)
        if not self._calls:
            return CompletionMessage(content=content)
        if self._options.legacy_calls:
            (first, *_) = self._calls
            function = CalledFunction(name=first.full_name, arguments=first.arguments)
            return CompletionMessage(content=content or None, function_call=function)
        calls = [_whole_call(call, self._call_id(at)) for at, call in enumerate(self._calls)]
        return CompletionMessage(content=content or None, tool_calls=calls)


def _function_pieces(call: ToolCall) -> tuple[CalledFunction, CalledFunction]:
    named = CalledFunction(name=call.full_name, arguments="")
    return named, CalledFunction(arguments=call.arguments)


def _call_deltas(call: ToolCall, index: int, id: str) -> tuple[ToolCallDelta, ToolCallDelta]:
    """Render the beginning of a call, and its arguments or input."""
    if call.custom:
        tool = CalledCustom(name=call.full_name, input="")
        return (
            ToolCallDelta(index=index, id=id, type="custom", custom=tool),
            ToolCallDelta(index=index, custom=CalledCustom(input=call.arguments)),
        )
    named, given = _function_pieces(call)
    return (
        ToolCallDelta(index=index, id=id, type="function", function=named),
        ToolCallDelta(index=index, function=given),
    )


def _whole_call(call: ToolCall, id: str) -> CompletionToolCall:
    if call.custom:
        tool = CalledCustom(name=call.full_name, input=call.arguments)
        return CompletionToolCall(id=id, type="custom", custom=tool)
    function = CalledFunction(name=call.full_name, arguments=call.arguments)
    return CompletionToolCall(id=id, function=function)


def fingerprint(model: str) -> str:
    """Return the `system_fingerprint`, which changes with the model behind a name."""
    return "fp_" + hashlib.sha256(model.encode()).hexdigest()[:10]


def _decode(body: Body) -> DecodedRequest:
    chat = decode_chat(body)
    return DecodedRequest(lambda _: chat, ChatAnswer)


def _field(path: str) -> str:
    """Return the path of a tool's result, which is the content of its message here."""
    return path.replace("].output", "].content") if path.startswith("messages[") else path


CHATS = Dialect("chatcmpl-", _decode, _field)
"""The dialect of `POST /v1/chat/completions`."""
