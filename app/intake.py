"""What every request brings: its bearer and its body."""

from __future__ import annotations

import asyncio
from typing import cast

from sanic import Request
from sanic.http import Http

from app.errors import BodyTooLarge, RequestTimeout, Unauthorized

LONGEST_BEARER = 7000
"""Characters; servers take header lines of 8 KB."""


def bearer(request: Request) -> str:
    """The upstream token that the client sent.

    Raises:
        Unauthorized: there is none, or it is not `Bearer <token>`.
    """
    given = request.headers.get("authorization", "")
    scheme, _, token = given.partition(" ")
    token = token.strip()
    if not given:
        raise Unauthorized
    if (
        scheme.lower() != "bearer"
        or not token
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise Unauthorized("The Authorization header must read `Bearer <token>`.")
    if len(token) > LONGEST_BEARER:
        raise Unauthorized("The bearer is longer than any token of the upstream.")
    return token


async def body(request: Request, limit: int, timeout: float) -> bytearray:
    """The request's body: at most `limit` bytes, which have `timeout` seconds to arrive.

    Raises:
        RequestTimeout: they did not.
        BodyTooLarge: there are more.
    """
    too_large = BodyTooLarge(f"The request body is larger than {limit} bytes.")
    announced = int(request.headers.get("content-length", 0))
    if announced > limit and "expect" in request.headers:
        raise too_large  # it has asked first, and sends nothing
    given, size = bytearray(), 0  # grows in place: pieces and their whole would be twice as much
    try:
        async with asyncio.timeout(timeout):
            async for part in cast(Http, request.stream):
                size += len(part)
                # What is too much is still read, and thrown away: a client that is cut off while
                # it sends does not see our answer.
                if size <= limit:
                    given += part
    except TimeoutError:
        if max(size, announced) <= limit:
            raise RequestTimeout("The request body did not arrive in time.") from None
    if max(size, announced) > limit:
        raise too_large
    # Sanic stops reading at 64 KB and never resumes; it would not see that the client has left.
    if request.transport is not None:
        request.transport.resume_reading()  # type: ignore[attr-defined]  # as every loop's has
    return given
