"""What every request brings: its bearer and its body."""

from __future__ import annotations

import asyncio

from sanic import Request

from app.errors import RequestTimeout, Unauthorized


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
    if scheme.lower() != "bearer" or not token or not token.isascii() or " " in token:
        raise Unauthorized("The Authorization header must read `Bearer <token>`.")
    return token


async def body(request: Request, timeout: float) -> bytes:
    """The request's body, which has `timeout` seconds to arrive.

    Raises:
        RequestTimeout: it did not.
    """
    try:
        async with asyncio.timeout(timeout):
            await request.receive_body()  # type: ignore[no-untyped-call]
    except TimeoutError:
        raise RequestTimeout("The request body did not arrive in time.") from None
    # Sanic stops reading at 64 KB and never resumes; it would not see that the client has left.
    if request.transport is not None:
        request.transport.resume_reading()  # type: ignore[attr-defined]  # as every loop's has
    return request.body
