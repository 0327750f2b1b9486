"""What every handler needs of HTTP: who asks, and how a refusal is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from simulator.errors import NO_TOKEN, ErrorAnswer, RefusedError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(error: ErrorAnswer) -> web.Response:
    """An error as an HTTP response."""
    headers = {"Content-Type": error.content_type, **dict(error.headers)}
    return web.Response(status=error.status, body=error.body, headers=headers)


def bearer_of(request: web.Request) -> str:
    """The account that asks. Raises RefusedError (401) without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(NO_TOKEN)
    return token.strip()


def side_host(request: web.Request, port: int) -> str:
    """The `name:port` of the hosts beside the API, under the name by which the client came here."""
    return URL.build(scheme="http", host=request.url.host or "127.0.0.1", port=port).authority


def refusing(handler: Handler) -> Handler:
    """The handler with every RefusedError turned into its answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            return answer(refused.answer)

    return handle
