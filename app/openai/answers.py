"""Bodies of answers, as OpenAI's types. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.events import Finish, FormatProblem

FinishName = Finish | Literal["tool_calls", "function_call"]


class Usage(msgspec.Struct, frozen=True):
    """Number of tokens of a request and its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CalledFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A called function, or a piece of its arguments."""

    name: str = ""
    arguments: str | None = None


class CalledCustom(msgspec.Struct, frozen=True, omit_defaults=True):
    """A called custom tool, or a piece of its input."""

    name: str = ""
    input: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The beginning of a tool call, or, without an id, a piece of its arguments."""

    index: int
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    function: CalledFunction | None = None
    custom: CalledCustom | None = None


class ChunkDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Text or tool calls that a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: CalledFunction | None = None


class FormatWarning(msgspec.Struct, frozen=True):
    """Warning that the answer may not have the JSON format that was asked for."""

    code: FormatProblem
    message: str


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice of a chunk."""

    index: int = 0
    delta: ChunkDelta
    logprobs: None = None
    finish_reason: FinishName | None = None


class QueuePlace(msgspec.Struct, frozen=True):
    """Place of a waiting request: 1 is next; `eta` in seconds. Typed clients ignore it."""

    position: int
    eta: int


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET
    warning: FormatWarning | msgspec.UnsetType = msgspec.UNSET


class CompletionToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call of a completion."""

    id: str
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | msgspec.UnsetType = msgspec.UNSET
    custom: CalledCustom | msgspec.UnsetType = msgspec.UNSET


class CompletionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The message of a completion."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[CompletionToolCall] | msgspec.UnsetType = msgspec.UNSET
    function_call: CalledFunction | msgspec.UnsetType = msgspec.UNSET


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice of a completion."""

    index: int = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: FinishName


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Body of an answer that is not streamed."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None
    warning: FormatWarning | msgspec.UnsetType = msgspec.UNSET


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `GET /v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


class DrawnImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One generated image."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None


class ImagesAnswer(msgspec.Struct, frozen=True):
    """Body of an image generation answer. `reply` is all text the upstream sent with the images."""

    created: int
    data: list[DrawnImage]
    reply: str
