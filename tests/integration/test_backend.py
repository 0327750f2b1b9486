"""One call to the upstream's HTTP API, and its failures."""

from __future__ import annotations

import socket

import pytest

from tests.support.loopback import Exchange, refusal, upstream
from workers.http.session import open_session
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import TOO_LARGE, Backend
from workers.upstream import UpstreamError

PATH = "/files/secret-file"
BEARER = "fk-secret"


async def test_a_body_over_its_cap_is_cut_and_marked() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(200, b"0123456789"))

    async with upstream(script, script) as (server, _), open_session() as session:
        backend = Backend(session, server.url)
        whole = await backend.call("GET", PATH, BEARER, timeout=5, max_bytes=10)
        assert (whole.status, whole.body, whole.flaw) == (200, b"0123456789", "")
        cut = await backend.call("GET", PATH, BEARER, timeout=5, max_bytes=9)
        assert (cut.body, cut.flaw) == (b"012345678", TOO_LARGE)


async def test_a_body_that_breaks_off_keeps_the_bytes_that_arrived() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
        exchange.close()

    async with upstream(script) as (server, _), open_session() as session:
        response = await Backend(session, server.url).call("GET", PATH, BEARER, timeout=5)
        assert (response.body, response.flaw) == (b"half", "ClientPayloadError")


async def test_an_unread_body_is_not_waited_for() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await exchange.closed_by_client()
        exchange.close()

    async with upstream(script) as (server, _), open_session() as session:
        backend = Backend(session, server.url, "prefix")
        response = await backend.call("PATCH", PATH, BEARER, timeout=30, max_bytes=0)
        assert (response.status, response.body) == (200, b"")
    assert server.exchanges[0].head.startswith(f"PATCH /prefix/backend-api{PATH} ".encode())


async def test_a_redirect_is_a_response_and_is_not_followed() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(307, b"", "Location: /elsewhere"))

    async with upstream(script) as (server, _), open_session() as session:
        response = await Backend(session, server.url).call("GET", PATH, BEARER, timeout=5)
        assert response.status == 307
        assert len(server.exchanges) == 1


async def test_a_server_that_is_too_slow_is_unreachable_because_of_a_timeout() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.closed_by_client()
        exchange.close()

    async with upstream(script) as (server, _), open_session() as session:
        with pytest.raises(UnreachableError) as caught:
            await Backend(session, server.url).call("GET", PATH, BEARER, timeout=0.1)
        assert (caught.value.reason, caught.value.timed_out) == ("TimeoutError", True)


async def test_an_unreachable_server_is_tried_again_and_its_error_shows_no_secret() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with open_session() as session:
            with pytest.raises(UpstreamError) as caught:
                await Backend(session, url, "hidden").call("GET", PATH, BEARER, timeout=5)
    error = caught.value
    assert isinstance(error, UnreachableError)
    assert error.passing
    assert (error.failed.fault, error.failed.code) == ("upstream_down", "upstream_unreachable")
    assert error.reason == "ClientConnectorError"
    where = url.removeprefix("http://")
    assert error.detail == f"connection refused: no server listens there ({where})"
    shown = f"{error} {error!r} {error.detail} {error.failed} {error.__cause__}"
    for secret in (BEARER, "secret-file", "hidden"):
        assert secret not in shown
