"""Bodies and events of `POST /v1/responses`, as OpenAI's types."""

from __future__ import annotations

import sys
from typing import Literal

import msgspec
from msgspec.structs import astuple

from app.openai.answers import FormatWarning, QueuePlace, Usage
from app.openai.errors import ErrorBody
from app.openai.responses.requests import ResponsesRequest

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Status = Literal["in_progress", "completed", "incomplete", "failed"]

LONGEST_ECHO = 4096
"""Bytes of a field of the request that are repeated in the response. They are kept while it waits,
and sent several times."""


class OutputText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[None] = []
    logprobs: list[None] = []


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True, tag="message"):
    """A message of the output."""

    id: str
    status: ItemStatus = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []


class OutputCall(msgspec.Struct, frozen=True, kw_only=True, tag="function_call"):
    """A function call of the output."""

    id: str
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    namespace: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str = ""


class OutputCustomCall(msgspec.Struct, frozen=True, kw_only=True, tag="custom_tool_call"):
    """A call of a custom tool in the output."""

    id: str
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    namespace: str | msgspec.UnsetType = msgspec.UNSET
    input: str = ""


Item = OutputMessage | OutputCall | OutputCustomCall


class InputDetails(msgspec.Struct, frozen=True):
    """Details of the tokens of a prompt."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Details of the tokens of an answer."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    """Number of tokens of a request and its answer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens_details: OutputDetails = OutputDetails()


def response_usage(usage: Usage) -> ResponseUsage:
    """Return a usage as this dialect has it."""
    return ResponseUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


class Incomplete(msgspec.Struct, frozen=True):
    """Reason for which a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseError(msgspec.Struct, frozen=True):
    """Reason for which a response failed."""

    code: str
    message: str


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a request that its response repeats, unless they are long."""

    instructions: str | None
    max_output_tokens: int | None
    metadata: msgspec.Raw
    parallel_tool_calls: bool
    store: bool
    text: msgspec.Raw
    tool_choice: msgspec.Raw
    tools: msgspec.Raw
    user: str | None

    @property
    def memory(self) -> int:
        """Bytes that the fields take."""
        return sum(map(_memory, astuple(self)))


def _memory(value: object) -> int:
    # The interpreter does not know the size of a `Raw`.
    return memoryview(value).nbytes if isinstance(value, msgspec.Raw) else sys.getsizeof(value)


def echo(request: ResponsesRequest) -> Echo:
    """Return the fields that the response repeats."""
    instructions = request.instructions or ""
    tools = b"[" + b",".join(map(bytes, request.tools or ())) + b"]"
    return Echo(
        instructions=instructions if 0 < len(instructions) <= LONGEST_ECHO else None,
        max_output_tokens=request.max_output_tokens,
        metadata=_short(request.metadata, b"{}"),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        store=request.store is not False,
        text=_short(request.text, b'{"format":{"type":"text"}}'),
        tool_choice=_short(request.tool_choice, b'"auto"'),
        tools=_short(tools, b"[]"),
        user=None if request.user is None else str(request.user),
    )


def _short(raw: msgspec.Raw | bytes, default: bytes) -> msgspec.Raw:
    """Copy a short field: the body that it is a part of is not kept."""
    field = bytes(raw) if memoryview(raw).nbytes <= LONGEST_ECHO else b""
    return msgspec.Raw(default if field in (b"", b"null") else field)


class Response(Echo, frozen=True, kw_only=True):
    """A response, as far as it is known."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    model: str
    output: list[Item]
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    background: Literal[False] = False
    previous_response_id: None = None
    reasoning: None = None
    temperature: None = None
    top_p: None = None
    truncation: Literal["disabled"] = "disabled"
    warning: FormatWarning | msgspec.UnsetType = msgspec.UNSET


class ResponseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the state of a response."""

    type: str
    sequence_number: int
    response: Response
    queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET


class ItemEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning or end of an item."""

    type: str
    sequence_number: int
    output_index: int
    item: Item


class PartEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning or end of the text of a message."""

    type: str
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputText


class TextEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the text of a message, or all of it."""

    type: str
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    logprobs: list[None] = []


class ArgumentsEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a function call: as a piece, then all of them."""

    type: str
    sequence_number: int
    item_id: str
    output_index: int
    delta: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET


class InputEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a custom tool: as a piece, then all of it."""

    type: str
    sequence_number: int
    item_id: str
    output_index: int
    delta: str | msgspec.UnsetType = msgspec.UNSET
    input: str | msgspec.UnsetType = msgspec.UNSET


class ErrorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An error. OpenAI documents the fields and sends the object; clients read the one or other."""

    type: str
    sequence_number: int
    code: str | None
    message: str
    param: str | None
    error: ErrorBody


Sent = ResponseEvent | ItemEvent | PartEvent | TextEvent | ArgumentsEvent | InputEvent | ErrorEvent
