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
    """Keep what is needed to count the tokens of messages once the answer is complete.

    No more than the counted prefix is copied, however long the messages are.
    """
    pieces: list[str] = []
    length = 0
    for message in messages:
        for text in (message.role, *_texts(message)):
            pieces.append(text[: max(0, COUNT_LIMIT - length)])
            length += len(text) + 1
    return Prompt(len(messages), "\n".join(pieces)[:COUNT_LIMIT], max(0, length - 1))


async def usage(prompt: Prompt, answer: str) -> Usage:
    """Count prompt and completion tokens, approximately as OpenAI does."""
    if prompt.length + len(answer) > _INLINE_LIMIT:
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(_executor(), _count_both, prompt, answer)
    else:
        tokens = _count_both(prompt, answer)
    prompt_tokens, completion_tokens = tokens
    prompt_tokens += _PER_MESSAGE * prompt.messages + _PER_ANSWER
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


def _count_both(prompt: Prompt, answer: str) -> tuple[int, int]:
    return count(prompt.prefix, prompt.length), count(answer)


def _texts(message: Message) -> list[str]:
    return [part for part in message.parts if isinstance(part, str)] or [""]


@cache
def _executor() -> ThreadPoolExecutor:
    # One thread, so that a few large prompts do not take all memory at once.
    return ThreadPoolExecutor(1, "usage")
