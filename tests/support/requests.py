"""Requests to the front end, and the reading of its streamed answers."""

from __future__ import annotations

import json
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
BODY = {"model": "gpt-4-s", "messages": [{"role": "user", "content": "hi"}]}
BEARER = {"authorization": "Bearer abc"}


def messages(response: httpx.Response) -> list[Any]:
    """The SSE messages of a streamed answer, `[DONE]` as None."""
    found = [m.removeprefix("data: ") for m in response.text.split("\n\n") if m[:5] == "data:"]
    return [None if m == "[DONE]" else json.loads(m.partition("\n")[0]) for m in found]


def said(streamed: list[Any]) -> str:
    """The text of a streamed answer."""
    return "".join(
        choice["delta"].get("content", "") for m in streamed if m for choice in m["choices"]
    )
