"""The sample question that shows that the gateway works."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import aiohttp

from local.terminal import LocalError, say

TIMEOUT = 600.0
"""Seconds for the whole answer: a server may load its model first, and the model may think."""

LIST_TIMEOUT = 10.0
"""Seconds for the server to be asked for its models."""

KEY = "any-key"
QUESTION = "Hello! Who is speaking?"


async def first_model(api_url: str) -> str:
    """Return the first model that clients may use; empty if there is none in time."""
    deadline = time.monotonic() + LIST_TIMEOUT
    async with _session() as session:
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async with session.get(f"{api_url}/models") as response:
                    match await response.json():
                        case {"data": [{"id": str(model)}, *_]}:
                            return model
            await asyncio.sleep(0.1)
    return ""


async def ask(api_url: str, model: str, fields: Mapping[str, object]) -> None:
    """Ask the sample question as any client would, and print the answer as it arrives.

    Raises:
        LocalError: there is no complete answer.
    """
    say(f"\nyou: {QUESTION}\n{model}: ", end="")
    try:
        async with (
            _session() as session,
            session.post(
                f"{api_url}/chat/completions", json={**request(model, QUESTION), **fields}
            ) as response,
        ):
            if response.status != 200:
                raise LocalError(f"\nthe sample question failed: {await response.text()}")
            async for text in _texts(response):
                say(_printable(text), end="")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LocalError(f"\nthe sample question failed: {type(error).__name__}") from None
    say("")


def request(model: str, question: str) -> dict[str, object]:
    """Return a request for a streamed answer."""
    return {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": question}],
    }


def _printable(text: str) -> str:
    """Remove what could confuse the terminal: a random model says anything."""
    return "".join(each for each in text if each.isprintable() or each == "\n")


def _session() -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {KEY}"}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT))


async def _texts(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Yield the pieces of a streamed answer. Raises LocalError if it has no end."""
    async for line in response.content:
        data = line.removeprefix(b"data: ").strip()
        if data == line.strip():  # a comment, or the empty line between two messages
            continue
        if data == b"[DONE]":
            return
        chunk: Mapping[str, object] = json.loads(data)
        match chunk:
            case {"error": {"message": str(message)}}:
                raise LocalError(f"\nthe sample question failed: {message}")
            case {"choices": [{"delta": {"content": str(text)}}]} if text:
                yield text
            case {"choices": [{"delta": {"reasoning_content": str(text)}}]}:
                yield text
            case {"choices": [{"delta": {"reasoning": str(text)}}]}:
                yield text
    raise LocalError("\nthe answer to the sample question was cut off")
