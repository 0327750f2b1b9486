"""The bearer and the body of a request."""

from __future__ import annotations

import asyncio
from typing import cast

from sanic import Request
from sanic.http import Http

import settings
from app.http.budget import Reservation
from app.openai.errors import (
    ApiError,
    BodyTooLarge,
    RequestTimeout,
    TooManyLargeRequests,
    Unauthorized,
)

LONGEST_BEARER = 7000
"""Characters; servers accept header lines of 8 KB."""

SMALL = 64 * 1024
"""Bytes of a body that need no reservation: Sanic reads this much before a handler asks for it."""


def read_bearer(request: Request) -> str:
    """Return the bearer, which is the client's upstream token.

    Raises:
        Unauthorized: there is none, or the header does not have the form `Bearer <token>`.
    """
    header = request.headers.get("authorization", "")
    scheme, _, bearer = header.partition(" ")
    bearer = bearer.strip()
    if not header:
        raise Unauthorized
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
) -> bytearray:
    """Read the body: at most `max_body_bytes`, within `body_timeout` seconds.

    Unless it is small, `reservation` grows with it.

    Raises:
        RequestTimeout: it did not arrive in time.
        BodyTooLarge: it is larger.
        TooManyLargeRequests: there was no room for it in time.
    """
    failure: ApiError | None = None
    limit = server.max_body_bytes
    announced = int(request.headers.get("content-length", 0))
    if announced > limit:
        failure = _too_large(limit)
        if "expect" in request.headers:
            raise failure  # this client asks first and sends no body
    body, size = bytearray(), 0  # grows in place: joining pieces would take twice the memory
    try:
        async with asyncio.timeout(server.body_timeout):
            async for part in cast(Http, request.stream):
                if failure is not None:
                    # A refused body is still read, and thrown away: a client that is cut off while
                    # it sends does not see our answer.
                    continue
                size += len(part)
                try:
                    if size > limit:
                        raise _too_large(limit)
                    if size > SMALL:
                        await reservation.grow(size)
                except ApiError as error:
                    failure = error
                    body.clear()
                    reservation.release()
                else:
                    body += part
    except TimeoutError:
        body.clear()
        if failure is None:
            late = RequestTimeout("The request body did not arrive in time.")
            failure = TooManyLargeRequests() if reservation.waits else late
    if failure is not None:
        raise failure
    # Sanic stops reading at 64 KB and never resumes; it would not notice that the client has
    # disconnected.
    if request.transport is not None:
        request.transport.resume_reading()  # type: ignore[attr-defined]  # as every loop's has
    return body


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is too large. The limit is {limit} bytes.")
