"""The bearer and the body of a request."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from typing import cast

from sanic import Request
from sanic.http import Http

import settings
from app.http.budget import Reservation
from app.http.unpacking import unpacked
from app.openai.errors import (
    BodyTooLarge,
    RequestTimeout,
    TooManyLargeRequests,
    Unauthorized,
)

LONGEST_BEARER = 7000
"""Characters; servers accept header lines of 8 KB."""

SMALL = 64 * 1024
"""Bytes of a body that need no reservation: Sanic reads this much before a handler asks for it."""


class ReceivedBody:
    """The body of a request. It may be large, so nothing else refers to it once it was taken."""

    __slots__ = ("content",)

    def __init__(self, content: bytearray) -> None:
        self.content = content

    def take(self) -> bytearray:
        """Return the body, and forget it."""
        content, self.content = self.content, bytearray()
        return content


def given_bearer(request: Request) -> str:
    """Return the bearer, which is the client's upstream token or its key of the gateway.

    Anthropic's clients send it in a header of their own. Without both headers it is "".

    Raises:
        Unauthorized: it does not have the form of one.
    """
    for name in ("Authorization", "x-api-key"):
        if len(request.headers.getall(name, [])) > 1:
            raise Unauthorized(f"The request has more than one {name} header. Send only one.")
    header = request.headers.get("authorization", "")
    if not header and (key := request.headers.get("x-api-key")):
        header = f"Bearer {key}"
    scheme, _, bearer = header.partition(" ")
    bearer = bearer.strip()
    if not header:
        return ""
    if (
        scheme.lower() != "bearer"
        or not bearer
        or not bearer.isascii()
        or not bearer.isprintable()
        or " " in bearer
    ):
        raise Unauthorized("The Authorization header must have the form `Bearer <token>`.")
    if len(bearer) > LONGEST_BEARER:
        raise Unauthorized("The bearer is longer than any token of the upstream.")
    return bearer


async def read_body(
    request: Request, server: settings.Server, reservation: Reservation
) -> ReceivedBody:
    """Read and unpack the body: at most `max_body_bytes`, within `body_timeout` seconds.

    Unless it is small, `reservation` grows with it. A byte order mark before it is left out.

    Raises:
        RequestTimeout: it did not arrive in time.
        BodyTooLarge: it is larger, packed or unpacked.
        UnsupportedEncoding, BadRequest: it cannot be unpacked.
        TooManyLargeRequests: there was no room for it in time.
    """
    limit = server.max_body_bytes
    if int(request.headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    parts = unpacked(cast(Http, request.stream), request.headers.get("content-encoding", ""))
    body, size = bytearray(), 0  # grows in place: joining pieces would take twice the memory
    try:
        async with asyncio.timeout(server.body_timeout):
            async for part in parts:
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                if size > SMALL:
                    await reservation.grow(size)
                body += part
    except TimeoutError:
        late = RequestTimeout("The request body did not arrive in time.")
        raise TooManyLargeRequests() if reservation.waits else late from None
    # Sanic stops reading at 64 KB and never resumes; it would not notice that the client has
    # disconnected.
    if request.transport is not None:
        request.transport.resume_reading()  # type: ignore[attr-defined]  # as every loop's has
    if body.startswith(BOM_UTF8):
        del body[: len(BOM_UTF8)]
    return ReceivedBody(body)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is too large. The limit is {limit} bytes.")
