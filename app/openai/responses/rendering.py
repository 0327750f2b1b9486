"""Renders a job's events as the events of a response, or collects them in one response.

The output is at most one message, then the function calls. Events are numbered from 0, as
`sequence_number`. A keep-alive repeats `response.in_progress` under the number of the event before
it, since clients skip comments and unknown events less reliably.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

import msgspec
from msgspec.structs import asdict, replace

from app.openai.answers import QueuePlace, Usage
from app.openai.dialect import Answer, DecodedRequest, Dialect, RenderOptions
from app.openai.errors import ApiError, BadRequest, JobFailed, LineFull
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, Piece
from app.openai.requests import AssistantCall, ChatMessage, CustomCall, FunctionCall
from app.openai.responses.answers import (
    ArgumentsEvent,
    Echo,
    ErrorEvent,
    Incomplete,
    InputEvent,
    Item,
    ItemEvent,
    ItemStatus,
    OutputCall,
    OutputCustomCall,
    OutputMessage,
    OutputText,
    PartEvent,
    Response,
    ResponseError,
    ResponseEvent,
    Sent,
    TextEvent,
    echo,
    response_usage,
)
from app.openai.responses.requests import decode_responses, field, references, to_chat
from app.openai.sse import encode, sse_message
from app.openai.tool_calls import ToolCall
from wire.events import Event, Started

_ADDED, _DONE = "response.output_item.added", "response.output_item.done"
_PART_ADDED = "response.content_part.added"
_INCOMPLETE = {
    "length": Incomplete("max_output_tokens"),
    "content_filter": Incomplete("content_filter"),
}


class ResponseAnswer(Answer):
    """One response, as far as its events have been received."""

    def __init__(
        self,
        echo: Echo,
        id: str,
        model: str,
        created: int,
        reader: AnswerReader,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(id, reader, options)
        self._id = id
        self._response = Response(
            id=id,
            created_at=created,
            status="in_progress",
            model=model,
            output=[],
            **asdict(echo) | {"store": echo.store and options.stores_items},
        )
        self._items: list[Item] = []
        self._ended_items: dict[str, ChatMessage] = {}
        self._texts: list[str] = []
        self._is_open = False  # the message
        self._asides = 0

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
                return rendered + self._end_of_output()
            if isinstance(event, Started):
                rendered += self._begin()
            elif self._reader.failed is not None:
                self.failure = JobFailed(self._reader.failed)
                rendered += self.error(self.failure)
        return rendered

    def ended_items(self) -> Mapping[str, ChatMessage]:
        """Return the items that have ended since the last call and are to be stored, by id."""
        ended, self._ended_items = self._ended_items, {}
        return ended if self._response.store else {}

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive; `place` while the job is waiting."""
        begun = self._begin()
        event = ResponseEvent(
            type="response.in_progress",
            sequence_number=self._messages.number - 1,
            response=self._response,  # without its output, which may be long
            queue=place or msgspec.UNSET,
        )
        return begun + _message(event)

    def error(self, failure: ApiError) -> bytes:
        """Render an error and the failed response: some clients read only the one or the other."""
        rendered = self._begin()
        body = RESPONSES.renamed(failure).object.error
        if self._options.errors_as_text:
            rendered += self._error_text(f"\n\nError: {body.message}")
        failed = replace(
            self._response,
            status="failed",
            output=self._output("incomplete"),
            error=ResponseError(error_code(failure), body.message),
        )
        rendered += self._aside(
            ErrorEvent,
            "error",
            code=body.code,
            message=body.message,
            param=body.param,
            error=body,
        )
        return rendered + self._aside(ResponseEvent, "response.failed", response=failed)

    def _error_text(self, text: str) -> bytes:
        """Render an error as text of a message that does not end, for clients that show nothing
        else."""
        at = 0 if self._is_open else len(self._items)
        item = OutputMessage(id=self._item_id("msg", at))
        place = {"item_id": item.id, "output_index": at}
        rendered = b""
        if not self._is_open:
            rendered += self._aside(ItemEvent, _ADDED, output_index=at, item=item)
            rendered += self._aside(PartEvent, _PART_ADDED, part=OutputText(), **place)
        shown = text if self._texts else text.lstrip()
        return rendered + self._aside(TextEvent, "response.output_text.delta", delta=shown, **place)

    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream."""
        response = self._ended(usage)
        return self._send(ResponseEvent, f"response.{response.status}", response=response)

    def whole(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""
        return encode(self._ended(usage))

    def _ended(self, usage: Usage | None) -> Response:
        incomplete = _INCOMPLETE.get(self.finish or "")
        return replace(
            self._response,
            status=self._status,
            output=self._output(self._status),
            usage=response_usage(usage) if usage else None,
            incomplete_details=incomplete,
            warning=self.warning or msgspec.UNSET,
        )

    @property
    def _status(self) -> Literal["completed", "incomplete"]:
        return "incomplete" if self.finish in _INCOMPLETE else "completed"

    def _output(self, status: ItemStatus) -> list[Item]:
        return [self._message(status) if isinstance(i, OutputMessage) else i for i in self._items]

    def _message(self, status: ItemStatus) -> OutputMessage:
        text = OutputText(text="".join(self._texts))
        return OutputMessage(id=self._item_id("msg", 0), status=status, content=[text])

    def _begin(self) -> bytes:
        if self.begun:
            return b""
        created = self._send(ResponseEvent, "response.created", response=self._response)
        return created + self._send(ResponseEvent, "response.in_progress", response=self._response)

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, ToolCall):
            return self._begin() + self._close_message("completed") + self._call(piece)
        self._texts.append(piece)
        return self._open_message() + self._text(TextEvent, "delta", delta=piece)

    def _open_message(self) -> bytes:
        rendered = self._begin()
        if self._items:
            return rendered
        item = OutputMessage(id=self._item_id("msg", 0))
        self._items.append(item)
        self._is_open = True
        rendered += self._send(ItemEvent, _ADDED, output_index=0, item=item)
        return rendered + self._part(_PART_ADDED, OutputText())

    def _close_message(self, status: ItemStatus) -> bytes:
        if not self._is_open:
            return b""
        self._is_open = False
        message = self._message(status)
        (text,) = message.content
        self._ended_items[message.id] = ChatMessage("assistant", text.text)
        rendered = self._text(TextEvent, "done", text=text.text)
        rendered += self._part("response.content_part.done", text)
        return rendered + self._send(ItemEvent, _DONE, output_index=0, item=message)

    def _end_of_output(self) -> bytes:
        opened = self._begin() if self._items else self._open_message()
        return opened + self._close_message(self._status)

    def _call(self, call: ToolCall) -> bytes:
        at = len(self._items)
        call_id, namespace = self._item_id("call", at), call.namespace or msgspec.UNSET
        begun: OutputCall | OutputCustomCall
        if call.custom:
            id = self._item_id("ctc", at)
            begun = OutputCustomCall(id=id, call_id=call_id, name=call.name, namespace=namespace)
            done: Item = replace(begun, status="completed", input=call.arguments)
            made = AssistantCall(call_id, custom=CustomCall(call.full_name, call.arguments))
        else:
            id = self._item_id("fc", at)
            begun = OutputCall(id=id, call_id=call_id, name=call.name, namespace=namespace)
            done = replace(begun, status="completed", arguments=call.arguments)
            made = AssistantCall(call_id, FunctionCall(call.full_name, call.arguments))
        self._items.append(done)
        self._ended_items[id] = ChatMessage("assistant", tool_calls=[made])
        return (
            self._send(ItemEvent, _ADDED, output_index=at, item=begun)
            + self._arguments(call, id, at)
            + self._send(ItemEvent, _DONE, output_index=at, item=done)
        )

    def _arguments(self, call: ToolCall, id: str, at: int) -> bytes:
        place = {"item_id": id, "output_index": at}
        given = call.arguments
        if call.custom:
            kind = "response.custom_tool_call_input"
            piece = self._send(InputEvent, f"{kind}.delta", delta=given, **place)
            return piece + self._send(InputEvent, f"{kind}.done", input=given, **place)
        kind = "response.function_call_arguments"
        piece = self._send(ArgumentsEvent, f"{kind}.delta", delta=given, **place)
        whole = {"arguments": given, "name": call.name}
        return piece + self._send(ArgumentsEvent, f"{kind}.done", **whole, **place)

    def _item_id(self, kind: str, at: int) -> str:
        """The same in every rendering of the answer."""
        return f"{kind}_" + hashlib.sha256(f"{self._id} {at}".encode()).hexdigest()[:32]

    def _text(self, make: Callable[..., Sent], step: str, **fields: object) -> bytes:
        item = self._items[0].id
        kind = f"response.output_text.{step}"
        return self._send(make, kind, item_id=item, output_index=0, **fields)

    def _part(self, kind: str, part: OutputText) -> bytes:
        return self._send(PartEvent, kind, item_id=self._items[0].id, output_index=0, part=part)

    def _send(self, make: Callable[..., Sent], kind: str, **fields: object) -> bytes:
        event = make(type=kind, sequence_number=self._messages.number, **fields)
        return self._messages.next(event, f"event: {kind}\n".encode())

    def _aside(self, make: Callable[..., Sent], kind: str, **fields: object) -> bytes:
        """Render a message at the end that is not made from events, so that none follows it."""
        number = self._messages.number + self._asides
        self._asides += 1
        return _message(make(type=kind, sequence_number=number, **fields))


def _message(event: Sent) -> bytes:
    """Render a message that is not made from events, and so has no number of its own."""
    return f"event: {event.type}\n".encode() + sse_message(event)


def error_code(failure: ApiError) -> str:
    """Return the code of a failed response, which is one of OpenAI's, except for our own 400s."""
    if failure.http_status == LineFull.status:
        return "rate_limit_exceeded"
    if failure.http_status == BadRequest.status:
        return failure.code or "invalid_prompt"
    return "server_error"


def _decode(body: Body) -> DecodedRequest:
    request = decode_responses(body)
    repeated = echo(request)
    return DecodedRequest(
        partial(to_chat, request),
        partial(ResponseAnswer, repeated),
        references(request),
        repeated.memory,
    )


RESPONSES = Dialect("resp_", _decode, field)
"""The dialect of `POST /v1/responses`."""
