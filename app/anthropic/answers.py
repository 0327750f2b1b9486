"""Bodies and events of `POST /v1/messages`, as Anthropic's types."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.openai.answers import FormatWarning

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageUsage(msgspec.Struct, frozen=True):
    """Number of tokens of a request and its answer."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class AnswerText(msgspec.Struct, frozen=True, tag="text"):
    """A text."""

    text: str = ""


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use"):
    """A call of a tool. `input` is a JSON object."""

    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


AnswerBlock = AnswerText | ToolUseBlock


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, as far as it is known."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnswerBlock]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage
    warning: FormatWarning | msgspec.UnsetType = msgspec.UNSET


class MessageStart(msgspec.Struct, frozen=True, tag="message_start"):
    """The beginning of an answer."""

    message: AnswerMessage


class BlockStart(msgspec.Struct, frozen=True, tag="content_block_start"):
    """The beginning of a block."""

    index: int
    content_block: AnswerBlock


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    """A piece of a text."""

    text: str


class InputDelta(msgspec.Struct, frozen=True, tag="input_json_delta"):
    """A piece of the input of a tool, in JSON."""

    partial_json: str


class BlockDelta(msgspec.Struct, frozen=True, tag="content_block_delta"):
    """A piece of a block."""

    index: int
    delta: TextDelta | InputDelta


class BlockStop(msgspec.Struct, frozen=True, tag="content_block_stop"):
    """The end of a block."""

    index: int


class MessageEnd(msgspec.Struct, frozen=True):
    """The reason for which an answer has ended."""

    stop_reason: StopReason | None
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, frozen=True, tag="message_delta", kw_only=True):
    """The end of an answer."""

    delta: MessageEnd
    usage: MessageUsage
    warning: FormatWarning | msgspec.UnsetType = msgspec.UNSET


class MessageStop(msgspec.Struct, frozen=True, tag="message_stop"):
    """The end of a stream."""


class TokenCount(msgspec.Struct, frozen=True):
    """Body of the answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int


AnswerEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
