"""Token usage of a request and its answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import msgspec

from app.openai.answers import Usage
from app.openai.tokens import COUNT_LIMIT, count
from wire.jobs import Message

_PER_MESSAGE = 3  # tokens added to each message by OpenAI's chat format
_PER_ANSWER = 3  # and to the prompt, to start the answer
_INLINE_LIMIT = 20_000  # characters above which counting would block the event loop


class Prompt(msgspec.Struct, frozen=True):
    """Number of messages and the prefix of their text used for token counting."""

    messages: int
    prefix: str
    length: int
    """Number of characters of the whole text."""


def summarize_prompt(messages: list[Message]) -> Prompt:
    """Keep what is needed to count the tokens of messages.

    No more than the counted prefix is copied, however long the messages are.
    """
    pieces: list[str] = []
    length = 0
    for message in messages:
        for text in (message.role, *_texts(message)):
            pieces.append(text[: max(0, COUNT_LIMIT - length)])
            length += len(text) + 1
    return Prompt(len(messages), "\n".join(pieces)[:COUNT_LIMIT], max(0, length - 1))


async def prompt_tokens(prompt: Prompt) -> int:
    """Count the tokens of a prompt, approximately as OpenAI does."""
    tokens = await _count(prompt.prefix, prompt.length)
    return tokens + _PER_MESSAGE * prompt.messages + _PER_ANSWER


async def usage(prompt_tokens: int, answer: str) -> Usage:
    """Add the tokens of an answer to those of its prompt."""
    tokens = await _count(answer, len(answer))
    return Usage(prompt_tokens, tokens, prompt_tokens + tokens)


async def _count(prefix: str, length: int) -> int:
    if len(prefix) <= _INLINE_LIMIT:
        return count(prefix, length)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor(), count, prefix, length)


def _texts(message: Message) -> list[str]:
    return [part for part in message.parts if isinstance(part, str)] or [""]


@cache
def _executor() -> ThreadPoolExecutor:
    # One thread, so that a few large prompts do not take all memory at once.
    return ThreadPoolExecutor(1, "usage")
