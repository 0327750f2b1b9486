"""The same question and answer in the gateway's dialect and in the upstream's."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec


@dataclass(frozen=True)
class Dialect:
    """Request body of one side, and extraction of words and of the answer from its stream.

    `path` is that of the upstream. `first_word` is in the bytes of the first text, and in none
    before. `words` counts the words of a middle piece of the stream. `text` extracts the answer
    from a whole stream, which must end with `[DONE]`.
    """

    path: str
    body: Callable[[str], bytes]
    first_word: bytes
    words: Callable[[bytes], int]
    text: Callable[[bytes], str]


def directive(words: int, interval: float) -> str:
    """Make a prompt that the simulator answers with `answer(words)` at a steady pace."""
    return f"[[sim words={words} interval={interval} delay={interval}]]"


def answer(words: int) -> str:
    """Return the simulator's answer."""
    return " ".join(f"w{n}" for n in range(words))


def headers(bearer: str) -> dict[str, str]:
    """Make the headers of either dialect."""
    return {
        "Authorization": f"Bearer {bearer}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
    }


def _openai_body(model: str, prompt: str) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return msgspec.json.encode({"model": model, "stream": True, "messages": messages})


def _openai_text(stream: bytes) -> str:
    chunks = [msgspec.json.decode(data) for data in _messages(stream)]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def _upstream_body(prompt: str) -> bytes:
    message = {
        "id": str(uuid.uuid4()),
        "author": {"role": "user"},
        "content": {"content_type": "text", "parts": [prompt]},
    }
    return msgspec.json.encode(
        {
            "action": "next",
            "messages": [message],
            "parent_message_id": str(uuid.uuid4()),
            "model": "text-davinci-002-render-sha",
        }
    )


def _upstream_text(stream: bytes) -> str:
    events = [msgspec.json.decode(data) for data in _messages(stream)]
    texts = [event["message"]["content"]["parts"][0] for event in events if event.get("message")]
    return str(texts[-1])


def _messages(stream: bytes) -> list[bytes]:
    blocks = [block for block in stream.split(b"\n\n") if block.startswith(b"data: ")]
    assert blocks[-1] == b"data: [DONE]", f"an answer ended with {stream[-300:]!r}"
    return [block.removeprefix(b"data: ").partition(b"\nid: ")[0] for block in blocks[:-1]]


_WORD = re.compile(rb"\bw\d")


def _openai(model: str) -> Dialect:
    return Dialect(
        "/v1/chat/completions",
        partial(_openai_body, model),
        b'"content":"w0',
        lambda stream: len(_WORD.findall(stream)),
        _openai_text,
    )


OPENAI = _openai("gpt-3.5-turbo")
"""Of the gateway in front of Pandora-Next."""
RELAYED = _openai("tiny")
"""Of the gateway in front of an OpenAI-compatible server, and of that server."""
UPSTREAM = Dialect(
    "/backend-api/conversation",
    # Each event repeats all words so far and adds one.
    _upstream_body,
    b'"parts": ["w0',
    lambda stream: stream.count(b"data: {"),
    _upstream_text,
)
