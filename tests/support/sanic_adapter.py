"""Adapter of pytest-sanic 1.9.1 (2021) to the Sanic of today."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
from sanic import Sanic

from app.http.connection import GatewayRequest


class TestedSanic(Sanic[Any, Any]):
    """Sanic has slots now; the plugin sets `is_running` on the app."""

    __slots__ = ("is_running",)
    __test__ = False


def new_app() -> TestedSanic:
    """An app under a name of its own: Sanic keeps a registry of all names."""
    Sanic.test_mode = True  # it rewrites its own methods at start, and can do that again
    return TestedSanic(
        f"tested-{secrets.token_hex(4)}", configure_logging=False, request_class=GatewayRequest
    )


@asynccontextmanager
async def started(app: TestedSanic) -> AsyncIterator[None]:
    """Finalize the app and run its listeners, which the plugin does in a way that Sanic no longer
    has."""
    loop = asyncio.get_running_loop()
    await app._startup()  # type: ignore[no-untyped-call]
    await app._server_event("init", "before", loop=loop)
    await app._server_event("init", "after", loop=loop)
    try:
        yield
    finally:
        await app._server_event("shutdown", "before", loop=loop)
        await app._server_event("shutdown", "after", loop=loop)
        Sanic.unregister_app(app)


class Client(Protocol):
    """The part of pytest-sanic's client that is used here."""

    session: httpx.AsyncClient

    def make_url(self, uri: str) -> str: ...
    async def get(self, uri: str, **more: Any) -> httpx.Response: ...
    async def post(self, uri: str, **more: Any) -> httpx.Response: ...


SanicClient = Callable[..., Awaitable[Client]]
