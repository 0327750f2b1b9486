"""What every request brings: its bearer and its body."""

from __future__ import annotations

import asyncio
from typing import cast

from sanic import Request
from sanic.http import Http

from app.http.budget import Charge
from app.openai.errors import ApiError, BodyTooLarge, Crowded, RequestTimeout, Unauthorized

LONGEST_BEARER = 7000
"""Characters; servers take header lines of 8 KB."""

SMALL = 64 * 1024
"""Bytes of a body that count for nothing: Sanic reads as many before anybody asks for them."""


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


async def body(request: Request, limit: int, timeout: float, charge: Charge) -> bytearray:
    """The request's body: at most `limit` bytes, which have `timeout` seconds to arrive.

    Unless it is small, it counts for `charge`.

    Raises:
        RequestTimeout: they did not.
        BodyTooLarge: there are more.
        Crowded: there was no room for them in time.
    """
    failure: ApiError | None = None
    announced = int(request.headers.get("content-length", 0))
    if announced > limit:
        failure = _too_large(limit)
        if "expect" in request.headers:
            raise failure  # it has asked first, and sends nothing
    given, size = bytearray(), 0  # grows in place: pieces and their whole would be twice as much
    try:
        async with asyncio.timeout(timeout):
            async for part in cast(Http, request.stream):
                if failure is not None:
                    # What is refused is still read, and thrown away: a client that is cut off
                    # while it sends does not see our answer.
                    continue
                size += len(part)
                try:
                    if size > limit:
                        raise _too_large(limit)
                    if size > SMALL:
                        await charge.hold(size)
                except ApiError as error:
                    failure = error
                    given.clear()
                    charge.give_back()
                else:
                    given += part
    except TimeoutError:
        given.clear()
        if failure is None:
            late = RequestTimeout("The request body did not arrive in time.")
            failure = Crowded() if charge.waits else late
    if failure is not None:
        raise failure
    # Sanic stops reading at 64 KB and never resumes; it would not see that the client has left.
    if request.transport is not None:
        request.transport.resume_reading()  # type: ignore[attr-defined]  # as every loop's has
    return given


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")
