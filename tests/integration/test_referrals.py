"""Servers that an answer of the upstream refers to: the internal network is not among them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from settings import Files, Settings, Upstream
from settings.networks import networks
from settings.urls import proxy_url
from tests.support.proxies import LOGIN, proxy
from tests.support.website import serving
from workers.http.session import open_session
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.referrals import open_referrals

OWN = "http://127.0.0.1:1"


@asynccontextmanager
async def backend(**config: Any) -> AsyncIterator[Backend]:
    upstream = Upstream(base_url=OWN, proxy=config.pop("proxy", None))
    configured = Settings(upstream=upstream, **config)
    async with (
        open_session(upstream.proxy) as session,
        open_referrals(session, configured) as referrals,
    ):
        yield Backend(session, OWN, referrals=referrals)


async def nothing() -> AsyncIterator[bytes]:
    yield b""


async def refer(backend: Backend, url: str) -> None:
    """Do all that an answer may refer to."""
    refused = 0
    for work in (
        backend.get(f"http://{url}"),
        backend.put(f"http://{url}", nothing(), {}, 5.0),
        backend.open_websocket(f"ws://{url}", protocol="p", heartbeat=5.0, max_frame=100),
    ):
        with pytest.raises(UnreachableError) as caught:
            await work
        refused += caught.value.forbidden
    assert refused == 3


@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "127.2", "2130706434", "[::ffff:127.0.0.2]", "localhost", "internal.example"],
)
async def test_an_answer_does_not_lead_a_worker_into_the_internal_network(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    reached = []

    async def note(request: web.Request) -> web.StreamResponse:
        reached.append(request)
        return web.Response()

    def look_up(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]

    async with serving(note, "127.0.0.2") as port:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        async with backend() as guarded:
            await refer(guarded, f"{host}:{port}/secret")
        assert not reached
        async with backend(files=Files(allow_networks=networks(["127.0.0.2/32"]))) as open_to:
            response = await open_to.get(f"http://internal.example:{port}/")
            response.close()
        assert len(reached) == 1


async def test_the_servers_of_the_settings_may_be_internal(loop: asyncio.AbstractEventLoop) -> None:
    async def hello(_: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    async with serving(hello) as port, backend() as own:
        response = await own.get(f"http://127.0.0.1:{port}/")
        assert await response.text() == "hello"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_an_internal_address_is_not_reached_through_the_proxy_either(
    loop: asyncio.AbstractEventLoop, scheme: str
) -> None:
    async with proxy(scheme) as passed:
        behind = proxy_url(f"{scheme}://{LOGIN}@{passed.address}")
        async with backend(proxy=behind) as guarded:
            for host in ("127.0.0.2", "127.2", "0x7f000002", "10.0.0.1", "[::1]", "x.localhost"):
                await refer(guarded, f"{host}:9/secret")
        assert passed.targets == []
