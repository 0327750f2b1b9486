"""HTTP parts that all handlers share: bearers, side hosts, refusals, resets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from simulator.errors import NO_TOKEN, ErrorAnswer, RefusedError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(error: ErrorAnswer) -> web.Response:
    """Turn an error into an HTTP response."""
    headers = {"Content-Type": error.content_type, **dict(error.headers)}
    return web.Response(status=error.status, body=error.body, headers=headers)


def bearer_of(request: web.Request) -> str:
    """Return the bearer, which is the account. Raises RefusedError (401) without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(NO_TOKEN)
    return token.strip()


def side_host(request: web.Request, port: int) -> str:
    """Return `name:port` of the side hosts, under the host name that the client used."""
    return URL.build(scheme="http", host=request.url.host or "127.0.0.1", port=port).authority


def refusing(handler: Handler) -> Handler:
    """Wrap a handler so that a RefusedError becomes its answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            return answer(refused.answer)

    return handle


def reset(request: web.Request) -> None:
    """Close the connection of a request with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    # Lingering for zero seconds turns the close into a reset.
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
