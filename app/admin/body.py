"""Bodies that operators send: small ones, under a deadline of their own."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec.structs import replace
from sanic import Request

import settings
from app.http.body import SMALL, read_body
from app.http.budget import MemoryBudget
from app.openai.errors import BadRequest

TIMEOUT = 10.0
"""Seconds within which a body must arrive."""

_Asked = TypeVar("_Asked")


async def read_small(request: Request, server: settings.Server) -> bytes:
    """Read a body of at most 64 KB.

    Raises:
        ApiError: it is larger, late or cannot be unpacked.
    """
    limits = replace(server, max_body_bytes=SMALL, body_timeout=min(TIMEOUT, server.body_timeout))
    received = await read_body(request, limits, MemoryBudget(SMALL, TIMEOUT).reservation())
    return bytes(received.take())


async def read_json(request: Request, server: settings.Server, kind: type[_Asked]) -> _Asked:
    """Read and decode a JSON body.

    Raises:
        ApiError: it cannot be read, or is not of this kind.
    """
    return decode(await read_small(request, server), kind)


def decode(body: bytes, kind: type[_Asked]) -> _Asked:
    """Decode a JSON body; an empty one is `{}`.

    Raises:
        BadRequest: it is not of this kind.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise _invalid(error) from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def query(request: Request, kind: type[_Asked]) -> _Asked:
    """Read the query of a request.

    Raises:
        BadRequest: it is not of this kind.
    """
    try:
        return msgspec.convert(dict(request.query_args), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.MsgspecError) -> BadRequest:
    message, _, path = str(error).partition(" - at `$.")
    return BadRequest(f"{message.rstrip('.')}.", param=path.rstrip("`") or None)
