"""Requests that were made to be slow or large."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

MB = 1024 * 1024
LARGE = 100 * MB


@dataclass(frozen=True)
class Hostile:
    """`number` requests at once. Without `reads`, the client never reads its answer."""

    body: Callable[[], bytes]
    number: int = 1
    encoding: str = "identity"
    reads: bool = True


def _chat(content: object, **fields: object) -> bytes:
    messages = [{"role": "user", "content": content}]
    return msgspec.json.encode({"model": "gpt-4", "stream": True, "messages": messages, **fields})


def _filled(field: str, value: bytes, size: int = LARGE) -> bytes:
    """A body with a list of the same values again and again."""
    body = _chat("Hello!")
    start, end = (body[:-1] + b",", b"}") if field != "messages" else (b'{"model":"gpt-4",', b"}")
    return (
        start
        + b'"%b":[' % field.encode()
        + b",".join([value] * (size // (len(value) + 1)))
        + b"]"
        + end
    )


def _file() -> bytes:
    data = base64.b64encode(b"%PDF-1.4\n" + bytes(LARGE - 100)).decode()
    return _chat([{"type": "file", "file": {"filename": "a.pdf", "file_data": data}}])


def _answered(name: str, **fields: object) -> Callable[[], bytes]:
    return lambda: _chat(f"[[hostile {name}]]", **fields)


def _tools(number: int, properties: int) -> list[object]:
    parameters = {"type": "object", "properties": {f"p{n}": {} for n in range(properties)}}
    return [
        {"type": "function", "function": {"name": f"f{n}", "parameters": parameters}}
        for n in range(number)
    ]


def _items(*either: object) -> dict[str, object]:
    """The format of a JSON answer whose items are valid against any of these schemas."""
    schema = {"properties": {"items": {"items": {"anyOf": either}}}}
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


CORPUS: dict[str, Hostile] = {
    "400,000 text parts": Hostile(
        lambda: _chat([{"type": "text", "text": "a"}] * 400_000),
    ),
    "100 MB of messages": Hostile(lambda: _filled("messages", b'{"role":"user","content":""}')),
    "100 MB of tools": Hostile(lambda: _filled("tools", b"{}")),
    "100 MB of modalities": Hostile(lambda: _filled("modalities", b'"ab"')),
    "4 MB of modalities": Hostile(lambda: _filled("modalities", b'"ab"', 4 * MB - 1000)),
    "4 MB of numbers": Hostile(lambda: _filled("metadata", b"1", 4 * MB - 1000)),
    "4 users of 36 MB": Hostile(lambda: _chat("Hello!", user="x" * (36 * MB)), 4),
    "a file of 100 MB": Hostile(_file),
    "the same in gzip": Hostile(lambda: gzip.compress(_file(), 1), encoding="gzip"),
    "30 texts of 4 MB with an emoji": Hostile(
        lambda: _chat("\N{GRINNING FACE}" + "x" * (4 * MB - 1000)), 30
    ),
    "4 MB of escapes": Hostile(
        lambda: _chat("@").replace(b"@", rb"\u00e9" * ((4 * MB - 1000) // 6))
    ),
    "4 MB of escaped quotes": Hostile(
        lambda: _chat("@").replace(b"@", rb"\"" * ((4 * MB - 1000) // 2))
    ),
    "large tools": Hostile(lambda: _chat("Hello!", tools=_tools(128, 130))),
    "a slow pattern": Hostile(
        _answered("json", response_format=_items({"pattern": "^(a|a)*[bc]$"}))
    ),
    "a slow schema": Hostile(
        _answered("json", response_format=_items(*({"const": n} for n in range(1000)), {}))
    ),
    "500,000 marks": Hostile(_answered("many_marks")),
    "27,000 marks": Hostile(_answered("marks")),
    "9,000 marks and sources": Hostile(_answered("marks_and_sources")),
    "10,000 parentheses": Hostile(_answered("parentheses")),
    "100,000 nested links": Hostile(_answered("nested_links")),
    "500,000 messages": Hostile(_answered("messages")),
    "20,000 openings of calls": Hostile(_answered("calls", tools=_tools(1, 1))),
    "60 MB that nobody reads": Hostile(_answered("pieces"), reads=False),
}
