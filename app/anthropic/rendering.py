"""Renders a job's events as the events of a message, or collects them in one message. Pure.

The content is at most one text, then the calls of tools. A keep-alive is a ping, after the
beginning of the message, which needs nothing of the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from app.anthropic.answers import (
    AnswerBlock,
    AnswerEvent,
    AnswerMessage,
    AnswerText,
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    MessageDelta,
    MessageEnd,
    MessageStart,
    MessageStop,
    MessageUsage,
    StopReason,
    TextDelta,
    ToolUseBlock,
)
from app.anthropic.errors import message_error
from app.anthropic.requests import decode_messages, field, to_chat
from app.anthropic.sse import error_event, ping
from app.openai.answers import QueuePlace, Usage
from app.openai.dialect import Answer, DecodedRequest, Dialect, RenderOptions
from app.openai.errors import ApiError, JobFailed
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, FinishReason, Piece
from app.openai.sse import encode, sse_message
from app.openai.tool_calls import ToolCall
from wire.events import Event, Started

_REASONS: dict[FinishReason | None, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
}


class MessageAnswer(Answer):
    """One message, as far as its events have been received."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        reader: AnswerReader,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(id, reader, options)
        usage = MessageUsage(options.prompt_tokens, 0)
        self._message = AnswerMessage(id=id, model=model, content=[], usage=usage)
        self._texts: list[str] = []
        self._calls: list[ToolUseBlock] = []
        self._is_open = False  # the text

    @property
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""
        return self._messages.number > 0

    def add(self, events: Iterable[Event]) -> bytes:
        """Add events, and return the SSE messages that show them to a streaming client."""
        rendered = b""
        for event in events:
            for piece in self._reader.add(event):
                rendered += self._piece(piece)
            if self.finish is not None:
                return rendered + self._begin() + self._close_text()
            if isinstance(event, Started):
                rendered += self._begin()
            elif self._reader.failed is not None:
                self.failure = JobFailed(self._reader.failed)
                rendered += self.error(self.failure)
        return rendered

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a ping as a keep-alive; `place` while the job is waiting."""
        return self._begin() + ping(place)

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""
        rendered = error_event(MESSAGES.renamed(failure))
        if not self._options.errors_as_text:
            return rendered
        return self._begin() + self._error_text(message_error(failure).error.message) + rendered

    def _error_text(self, message: str) -> bytes:
        """Render an error as text that does not end, for clients that show nothing else."""
        at = 0 if self._is_open else self._blocks
        text = f"\n\nError: {message}"
        delta = TextDelta(text if self._texts else text.lstrip())
        begun = b"" if self._is_open else _aside(BlockStart(at, AnswerText()))
        return begun + _aside(BlockDelta(at, delta))

    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream."""
        whole = self._ended(usage or Usage(0, 0, 0))
        end = MessageEnd(whole.stop_reason, whole.stop_sequence)
        last = MessageDelta(delta=end, usage=whole.usage, warning=whole.warning)
        return self._send(last) + self._send(MessageStop())

    def whole(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""
        return encode(self._ended(usage))

    def _ended(self, usage: Usage) -> AnswerMessage:
        text = "".join(self._texts)
        content: list[AnswerBlock] = [AnswerText(text=text)] if text else []
        stop = self._reader.stop if self.finish == "stop" else None
        return msgspec.structs.replace(
            self._message,
            content=[*content, *self._calls],
            stop_reason="stop_sequence" if stop is not None else _REASONS[self.finish],
            stop_sequence=stop,
            usage=MessageUsage(usage.prompt_tokens, usage.completion_tokens),
            warning=self.warning or msgspec.UNSET,
        )

    @property
    def _blocks(self) -> int:
        return bool(self._texts) + len(self._calls)

    def _begin(self) -> bytes:
        return b"" if self.begun else self._send(MessageStart(self._message))

    def _piece(self, piece: Piece) -> bytes:
        rendered = self._begin()
        if isinstance(piece, ToolCall):
            return rendered + self._close_text() + self._call(piece)
        if not self._is_open:
            self._is_open = True
            rendered += self._send(BlockStart(0, AnswerText()))
        self._texts.append(piece)
        return rendered + self._send(BlockDelta(0, TextDelta(piece)))

    def _close_text(self) -> bytes:
        was_open, self._is_open = self._is_open, False
        return self._send(BlockStop(0)) if was_open else b""

    def _call(self, call: ToolCall) -> bytes:
        at = self._blocks
        begun = ToolUseBlock(id=self._call_id(at), name=call.full_name)
        given = msgspec.Raw(call.arguments.encode())
        self._calls.append(msgspec.structs.replace(begun, input=given))
        return (
            self._send(BlockStart(at, begun))
            + self._send(BlockDelta(at, InputDelta(call.arguments)))
            + self._send(BlockStop(at))
        )

    def _call_id(self, at: int) -> str:
        """The same in every rendering of the answer."""
        return "toolu_" + hashlib.sha256(f"{self._message.id} {at}".encode()).hexdigest()[:24]

    def _send(self, event: AnswerEvent) -> bytes:
        return self._messages.next(event, _name(event))


def _name(event: AnswerEvent) -> bytes:
    return f"event: {event.__struct_config__.tag}\n".encode()


def _aside(event: AnswerEvent) -> bytes:
    """Render a message that is not made from events, and so has no number."""
    return _name(event) + sse_message(event)


def _decode(body: Body) -> DecodedRequest:
    request = decode_messages(body)
    return DecodedRequest(lambda _: to_chat(request), MessageAnswer, ignored=request.ignored)


MESSAGES = Dialect("msg_", _decode, field)
"""The dialect of `POST /v1/messages`."""
