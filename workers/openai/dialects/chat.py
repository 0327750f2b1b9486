"""`/v1/chat/completions`: a message says something by a member of `delta` that is not empty."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from workers.openai.dialects.choices import Choice, Choices
from workers.openai.dialects.dialect import NULL, says

_SAYING = ("content", "tool_calls", "function_call", "refusal", "audio")

_decode = msgspec.json.Decoder(dict[str, Raw] | None).decode


class ChatChoice(Choice, gc=False):
    """A choice with the next piece of its message."""

    delta: Raw = NULL


_decoder: msgspec.json.Decoder[list[ChatChoice] | None] = msgspec.json.Decoder(
    list[ChatChoice] | None
)


class Chat(Choices[ChatChoice]):
    """The `Dialect` of chat completions."""

    def __init__(self, asked: int = 1) -> None:
        super().__init__(_decoder, asked)

    def _says(self, choice: ChatChoice) -> bool:
        delta = _decode(choice.delta) or {}
        # Reasoning is `reasoning`, `reasoning_content` or `reasoning_details`.
        return any(
            says(value)
            for name, value in delta.items()
            if name in _SAYING or name.startswith("reasoning")
        )
