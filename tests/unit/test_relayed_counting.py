"""Estimates of the tokens of requests that are relayed."""

from __future__ import annotations

import json
from typing import Any

from app.relayed.counting import relayed_prompt
from app.relayed.requests import RelayedCount, decode_relayed
from wire.tokens.prompt import Prompt

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def prompt(**body: Any) -> Prompt:
    request = decode_relayed("messages/count_tokens", json.dumps({"model": "m", **body}).encode())
    assert isinstance(request, RelayedCount)
    return relayed_prompt(request)


def said(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def test_all_texts_of_a_request_are_counted() -> None:
    call = {
        "type": "tool_use",
        "id": "x",
        "name": "edit",
        "input": {"file": "a.py", "lines": ["b"]},
    }
    result = {
        "type": "tool_result",
        "tool_use_id": "x",
        "content": [{"type": "text", "text": "ok"}],
    }
    tools = [{"name": "edit", "input_schema": {"type": "object"}}]
    found = prompt(
        system=[{"type": "text", "text": "Be brief."}],
        messages=[said("Hi"), said([PICTURE, call, result])],
        tools=tools,
    )
    assert found.messages == 4
    texts = found.prefix.split("\n")
    expected = ["user", "Be brief.", "user", "Hi", "user", "edit", "a.py", "b", "ok", "system"]
    assert texts[:-1] == expected
    assert json.loads(texts[-1]) == tools


def test_a_request_without_anything_else_has_its_messages_alone() -> None:
    assert prompt(messages=[said("Hi")], tools=None) == Prompt(1, "user\nHi", 7)


def test_json_that_is_nested_deeply_is_counted_as_far_as_it_is_read() -> None:
    deep: object = "text"
    for _ in range(60):
        deep = [deep]
    assert prompt(messages=[said(deep)]).prefix == "user\n"
