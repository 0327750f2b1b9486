"""JSON answers."""

from __future__ import annotations

import msgspec
from sanic import HTTPResponse
from sanic.response import raw

JSON = {"content-type": "application/json"}


def encoded_json(
    body: bytes, headers: dict[str, str] | None = None, status: int = 200
) -> HTTPResponse:
    """Make a response of a body that is already encoded."""
    return raw(body, status, headers, content_type=JSON["content-type"])


def json(
    data: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    """Encode a typed body as a response."""
    return encoded_json(msgspec.json.encode(data), headers, status)
