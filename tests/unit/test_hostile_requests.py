"""Work on requests that were made to be slow: twice the input takes about twice the steps."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import settings
from app.openai.emulation import emulate
from app.openai.messages import given_files, memory, to_messages
from app.openai.requests import ChatMessage, TextPart, decode_chat
from tests.support.work import lines_of_code
from wire.jobs import Attachment, Message
from wire.tokens.prompt import summarize_prompt

TEXT = {"type": "text", "text": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "b"}
FILE = Attachment("a.png", "image/png", 1, "0" * 64)


def said(*parts: object) -> list[object]:
    return [{"role": "user", "content": list(parts)}]


def tool(number: int) -> object:
    return {"type": "function", "function": {"name": f"f{number}", "parameters": {}}}


HOSTILE: dict[str, Callable[[int], dict[str, object]]] = {
    "texts": lambda n: {"messages": said(*[TEXT] * n)},
    "images": lambda n: {"messages": said(*[IMAGE] * n)},
    "texts and images in turn": lambda n: {"messages": said(*[TEXT, IMAGE] * (n // 2))},
    "messages": lambda n: {"messages": said(TEXT) * n},
    "calls and results": lambda n: {
        "messages": [{"role": "assistant", "tool_calls": [CALL]}, RESULT] * (n // 2)
    },
    "calls of one message": lambda n: {
        "messages": [{"role": "assistant", "tool_calls": [CALL] * (n // 8)}] * 2
    },
    "tools": lambda n: {"messages": said(TEXT), "tools": [tool(i) for i in range(n // 8)]},
    "values of a schema": lambda n: {
        "messages": said(TEXT),
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"enum": [{"a": {}}] * n}},
            }
        ],
    },
}


def read(body: bytes) -> None:
    """Turn a body into what a job carries."""
    chat = decode_chat(body)
    emulate(chat, settings.Compat())
    files = {given.param: FILE for given in given_files(chat.messages)}
    assert memory(chat.messages) > 0
    summarize_prompt(to_messages(chat.messages, files))


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_input_is_about_twice_the_work(name: str) -> None:
    once, twice = (
        json.dumps({"model": "gpt-4", **HOSTILE[name](number)}).encode() for number in (500, 1000)
    )
    steps = lines_of_code(lambda: read(once))
    assert steps > 20
    assert lines_of_code(lambda: read(twice)) < 2.2 * steps + 1000


class Piece(str):
    """A text that may only be joined with all others at once."""

    def __add__(self, other: object) -> str:
        raise AssertionError("adding text by text copies all texts before it")

    __radd__ = __add__


def test_the_texts_of_a_message_are_joined_once() -> None:
    texts = [TextPart(text=Piece(n)) for n in range(9)]
    messages = [ChatMessage(role="user", content=[*texts])]
    assert to_messages(messages, {}) == [Message("user", "\n".join(map(str, range(9))))]
