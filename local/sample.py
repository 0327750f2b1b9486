"""The sample question that shows that the gateway works, and instructions for asking others."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator, Mapping

import aiohttp

from local.terminal import LocalError, say

TIMEOUT = 60.0
"""Seconds for the whole answer."""

KEY = "any-key"
QUESTION = "Hello! Who is speaking?"


async def ask(url: str, model: str) -> None:
    """Ask the sample question as any client would, and print the answer as it arrives.

    Raises:
        LocalError: there is no complete answer.
    """
    say(f"\nyou: {QUESTION}\n{model}: ", end="")
    headers = {"authorization": f"Bearer {KEY}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.post(url, json=_request(model, QUESTION)) as response,
        ):
            if response.status != 200:
                raise LocalError(f"\nthe sample question failed: {await response.text()}")
            async for text in _texts(response):
                say(text, end="")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LocalError(f"\nthe sample question failed: {type(error).__name__}") from None
    say("")


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
            case {"choices": [{"delta": {"content": str(text)}}]}:
                yield text
            case {"error": {"message": str(message)}}:
                raise LocalError(f"\nthe sample question failed: {message}")
    raise LocalError("\nthe answer to the sample question was cut off")


def instructions(url: str, model: str, *, simulated: bool) -> str:
    """Explain how to use the gateway that serves `url`."""
    key = KEY if simulated else "$KEY"
    request = json.dumps(_request(model, "Hello!"), ensure_ascii=False)
    lines = [
        "",
        f"The gateway serves {url.removesuffix('/chat/completions')}. Try it:",
        "",
        f"  curl -N {url} \\",
        f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        f"    -d {shlex.quote(request)}",
        "",
    ]
    if simulated:
        lines += [
            "Answers come from a simulator, no real model is asked. To use your Pandora-Next, set",
            "upstream.base_url and upstream.api_prefix in settings.local.toml, or start it with:",
            "",
            "  GATEWAY__UPSTREAM__BASE_URL=https://pandora.example.com \\",
            "    GATEWAY__UPSTREAM__API_PREFIX=its-proxy_api_prefix make run",
            "",
        ]
    else:
        lines += ["$KEY is a token that your Pandora-Next server accepts.", ""]
    return "\n".join([*lines, "Ctrl-C stops it."])


def _request(model: str, question: str) -> dict[str, object]:
    return {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": question}],
    }
