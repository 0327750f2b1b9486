"""Usage as servers with OpenAI's API tell it in their answers, in every dialect. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

_Number = Annotated[int, Meta(ge=0, le=1_000_000_000)]  # one mistake must not spoil all sums


class ToldUsage(msgspec.Struct, frozen=True):
    """Tokens of a request and of its answer; None if the server does not tell them."""

    input: int | None = None
    output: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Number | None = None
    completion_tokens: _Number | None = None
    input_tokens: _Number | None = None
    output_tokens: _Number | None = None
    cache_creation_input_tokens: _Number | None = None
    cache_read_input_tokens: _Number | None = None

    @property
    def input(self) -> int | None:
        """Tokens of the request. Anthropic's do not include those of a cache."""
        if self.input_tokens is None:
            return self.prompt_tokens
        cached = (self.cache_creation_input_tokens or 0) + (self.cache_read_input_tokens or 0)
        return self.input_tokens + cached

    @property
    def output(self) -> int | None:
        """Tokens of the answer so far."""
        return self.completion_tokens if self.output_tokens is None else self.output_tokens


class _Part(msgspec.Struct):
    usage: _Usage | None = None


class _Message(_Part):
    message: _Part | None = None
    """The empty message with which an answer of Anthropic's begins."""
    response: _Part | None = None
    """The whole response with which one of Responses ends."""


_decode = msgspec.json.Decoder(_Message).decode


def told_usage(messages: Iterable[bytes]) -> ToldUsage:
    """Return the last usage in these messages; those in another form have none."""
    told = [usage for message in messages for usage in _usages(message)]
    inputs = [usage.input for usage in told if usage.input is not None]
    outputs = [usage.output for usage in told if usage.output is not None]
    return ToldUsage(inputs[-1] if inputs else None, outputs[-1] if outputs else None)


def _usages(message: bytes) -> list[_Usage]:
    if b"_tokens" not in message:
        return []
    try:
        decoded = _decode(message)
    except (msgspec.DecodeError, RecursionError):
        return []
    parts = (decoded, decoded.message, decoded.response)
    return [part.usage for part in parts if part is not None and part.usage is not None]
