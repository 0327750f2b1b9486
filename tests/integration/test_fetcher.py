"""Fetching by URL from a server on loopback, reachable only through an allowed network."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.files.fetcher import Fetcher, FetchError
from runtime.public_connector import LOOKUPS
from settings.networks import networks
from tests.support.listeners import self_signed
from tests.support.website import serving

LOOPBACK = networks(["127.0.0.0/8"])


async def fetch(fetcher: Fetcher, url: str) -> tuple[str, bytes]:
    async with fetcher.running(), fetcher.open(url) as fetched:
        return fetched.type, b"".join([piece async for piece in fetched.pieces()])


async def hello(_: web.Request) -> web.StreamResponse:
    return web.Response(text="hello")


async def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(FetchError) as caught:
        await fetch(fetcher, url)
    assert "127" not in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


async def test_a_url_in_an_allowed_network_is_fetched(loop: asyncio.AbstractEventLoop) -> None:
    async with serving(hello) as port:
        url = f"http://127.0.0.1:{port}/a"
        assert await fetch(Fetcher(LOOPBACK), url) == ("text/plain", b"hello")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST.",
        "user:password@127.0.0.1",
    ],
)
async def test_no_spelling_of_an_address_that_is_not_public_reaches_a_server(
    loop: asyncio.AbstractEventLoop, host: str
) -> None:
    asked = []

    async def note(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return web.Response()

    async with serving(note) as port:
        await refused(Fetcher(), f"http://{host}:{port}/secret")
        await refused(Fetcher(networks(["10.0.0.0/8"])), f"http://{host}:{port}/secret")
    assert not asked


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "100.100.100.200"]
)
async def test_private_and_metadata_addresses_are_refused_at_once(
    loop: asyncio.AbstractEventLoop, address: str
) -> None:
    async with asyncio.timeout(30):
        said = await refused(Fetcher(), f"http://{address}/secret")
    assert "not public" in said


async def test_a_host_name_is_checked_by_its_address_at_each_connection(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server may return a harmless address first, and any other later (rebinding)."""
    answers = ["127.0.0.1", "127.0.0.2"]

    def look_up(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    async with serving(hello) as port:
        url = f"http://rebinding.example:{port}/secret"
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        only = Fetcher(networks(["127.0.0.1/32"]))
        assert await fetch(only, url) == ("text/plain", b"hello")
        assert "not public" in await refused(only, url)


async def test_slow_name_lookups_delay_no_other_fetch(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has a host name too, which is looked up in the threads of the loop."""
    answer = threading.Event()
    asking: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **more: Any) -> list[Any]:
        if host.endswith("slow.example"):
            asking.append(host)
            assert answer.wait(30)
            raise socket.gaierror
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("runtime.public_connector.LOOKUP_PATIENCE", 0.5)
    fetcher = Fetcher()
    async with fetcher.running():

        async def ask(number: int) -> None:
            with pytest.raises(FetchError, match="does not exist"):
                async with fetcher.open(f"http://{number}.slow.example/"):
                    pass

        asked = [asyncio.create_task(ask(number)) for number in range(3 * LOOKUPS)]
        async with asyncio.timeout(10):
            while len(asking) < LOOKUPS:
                await asyncio.sleep(0.01)
            assert await loop.getaddrinfo("localhost", 80)
            await asyncio.gather(*asked)  # although no name server has answered
        assert len(asking) == LOOKUPS
    answer.set()


async def test_each_hop_of_a_redirect_is_checked(loop: asyncio.AbstractEventLoop) -> None:
    reached = []

    async def inner(request: web.Request) -> web.StreamResponse:
        reached.append(request)
        return web.Response()

    async with serving(inner, "127.0.0.2") as hidden:

        async def redirect(request: web.Request) -> web.StreamResponse:
            to = request.query.get("to", f"http://127.0.0.2:{hidden}/")
            if request.path == "/round":
                to = "/round"
            return web.Response(status=302, headers={"Location": to})

        only = Fetcher(networks(["127.0.0.1/32"]))
        async with serving(redirect) as port:
            start = f"http://127.0.0.1:{port}/"
            assert "not public" in await refused(only, start)
            assert "must begin with" in await refused(only, f"{start}?to=file:///etc/passwd")
            assert "must begin with" in await refused(only, f"{start}?to=gopher://127.0.0.1/")
            assert "too many redirects" in await refused(only, f"{start}round")
    assert not reached


async def test_a_redirect_to_an_allowed_place_is_followed(loop: asyncio.AbstractEventLoop) -> None:
    async def twice(request: web.Request) -> web.StreamResponse:
        if request.path == "/there":
            return web.Response(body=b"%PDF-", content_type="application/pdf")
        return web.Response(status=307, headers={"Location": "/there"})

    async with serving(twice) as port:
        found = await fetch(Fetcher(LOOPBACK), f"http://127.0.0.1:{port}/here")
    assert found == ("application/pdf", b"%PDF-")


@pytest.mark.parametrize(
    "url",
    ["", "secret", "ftp://example.com/a", "file:///etc/passwd", "http://", "http://[::1", "//a/b"],
)
async def test_a_string_that_is_not_an_http_url_is_refused(
    loop: asyncio.AbstractEventLoop, url: str
) -> None:
    await refused(Fetcher(), url)


async def test_error_statuses_compression_and_broken_responses_are_reported(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def bad(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/404":
                raise web.HTTPNotFound
            case "/gzip":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case _:
                response = web.StreamResponse(headers={"Content-Length": "10"})
                await response.prepare(request)
                await response.write(b"half")
                assert request.transport is not None
                request.transport.close()
                return response

    async with serving(bad) as port:
        root = f"http://127.0.0.1:{port}"
        assert "responded with 404" in await refused(Fetcher(LOOPBACK), f"{root}/404")
        assert "compressed" in await refused(Fetcher(LOOPBACK), f"{root}/gzip")
        await refused(Fetcher(LOOPBACK), f"{root}/broken")
    assert "refused the connection" in await refused(Fetcher(LOOPBACK), f"{root}/gone")


async def test_a_refusal_does_not_tell_which_internal_names_exist(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **_: object) -> list[object]:
        if host == "unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    hosts = ("unknown.example", "internal.example", "10.0.0.1", "127.0.0.1", "localhost")
    said = {await refused(Fetcher(), f"http://{host}/secret") for host in hosts}
    assert len(said) == 1


SPELLED = "/a%3Ab/%E5%9b%be%2F(x)?ex=6%3A7&s=a%2bb+c%20d&sig=%2f~%7E=="
"""A signed URL: in any other spelling its signature is not valid."""


async def test_a_url_is_requested_as_it_is_spelled_also_after_a_redirect(
    loop: asyncio.AbstractEventLoop,
) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        asked.append(request.raw_path)
        if request.path == "/from":
            return web.Response(status=302, headers={"Location": SPELLED})
        return web.Response(text="x")

    async with serving(note) as port:
        for path in (SPELLED, "/from", "/图 片.png?名=空"):
            await fetch(Fetcher(LOOPBACK), f"http://127.0.0.1:{port}{path}#part")
    assert asked == [
        SPELLED,
        "/from",
        SPELLED,
        "/%E5%9B%BE%20%E7%89%87.png?%E5%90%8D=%E7%A9%BA",
    ]


@pytest.mark.parametrize(
    ("disposition", "extension"),
    [
        ('attachment; filename="a report.pdf"', ".pdf"),
        ("attachment; filename=a.csv; size=3", ".csv"),
        ("attachment; filename*=UTF-8''%E5%9B%BE.docx", ".docx"),
        ('inline; filename="none"', ""),
        ("inline", ""),
        ('attachment; filename="' + "filename=" * 2000, ""),
    ],
)
async def test_the_name_that_a_server_gives_a_file_is_read(
    loop: asyncio.AbstractEventLoop, disposition: str, extension: str
) -> None:
    async def named(_: web.Request) -> web.StreamResponse:
        return web.Response(text="x", headers={"Content-Disposition": disposition})

    fetcher = Fetcher(LOOPBACK)
    async with (
        serving(named) as port,
        fetcher.running(),
        fetcher.open(f"http://127.0.0.1:{port}/files/a%2Fb.php?x=1") as fetched,
    ):
        assert fetched.name.endswith(extension)
        assert bool(fetched.name) == bool(extension)
        assert fetched.in_url == "a/b.php"


async def test_each_failure_of_tls_is_named(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Some picture hosts offer the RSA key exchange alone, which Python leaves out by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")
    for tls, reason in ((context, "certificate"), (None, "agree on a TLS connection")):
        async with serving(hello, tls=tls) as port:
            assert reason in await refused(Fetcher(LOOPBACK), f"https://127.0.0.1:{port}/secret")
