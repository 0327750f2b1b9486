"""Tokens of the messages of a request, approximately as OpenAI counts them."""

from __future__ import annotations

import msgspec

from wire.jobs import Message
from wire.tokens.text import COUNT_LIMIT, count_soon

_PER_MESSAGE = 3  # tokens added to each message by OpenAI's chat format
_PER_ANSWER = 3  # and to the prompt, to start the answer


class Prompt(msgspec.Struct, frozen=True):
    """Number of messages and the prefix of their text used for token counting."""

    messages: int
    prefix: str
    length: int
    """Number of characters of the whole text."""


def summarize_prompt(messages: list[Message], limit: int = COUNT_LIMIT) -> Prompt:
    """Keep what is needed to count the tokens of messages.

    No more than the counted prefix is copied, however long the messages are.
    """
    pieces: list[str] = []
    length = 0
    for message in messages:
        for text in (message.role, *_texts(message)):
            pieces.append(text[: max(0, limit - length)])
            length += len(text) + 1
    return Prompt(len(messages), "\n".join(pieces)[:limit], max(0, length - 1))


async def prompt_tokens(
    prompt: Prompt, limit: int = COUNT_LIMIT, patience: float | None = None
) -> int:
    """Count the tokens of a prompt, approximately as OpenAI does. See `count_soon`."""
    tokens = await count_soon(prompt.prefix, prompt.length, limit, patience)
    return tokens + _PER_MESSAGE * prompt.messages + _PER_ANSWER


def _texts(message: Message) -> list[str]:
    return [part for part in message.parts if isinstance(part, str)] or [""]
