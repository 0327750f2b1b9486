"""Exchanges with real OpenAI-compatible servers, recorded byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.replay import RECORDED, recorded


@dataclass
class Recording:
    """A request and its response: its bytes, and what they say."""

    path: str
    request: bytes
    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    """The body without its chunks, as far as it came."""


def recording(name: str) -> Recording:
    """Return a recording by its name, as in `llama.cpp/stream`. Skips a test without it."""
    raw = recorded(name)
    request = (RECORDED / f"{name}.request").read_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {
        key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    chunked = headers.get("transfer-encoding") == "chunked"
    return Recording(
        request.split()[1].decode().removeprefix("/v1/"),
        request.partition(b"\r\n\r\n")[2],
        raw,
        int(first.split()[1]),
        headers,
        _unchunked(body) if chunked else body,
    )


def _unchunked(body: bytes) -> bytes:
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        content += body[:length]
        body = body[length + 2 :]
    return content
