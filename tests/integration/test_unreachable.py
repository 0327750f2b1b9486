"""Upstreams that cannot be reached: the reason and the address are in the log, and no secret."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import settings
from settings.credentials import Secret
from settings.urls import proxy_url
from tests.support.listeners import listening, untrusted
from wire import VERSION
from wire.jobs import RelayedJob
from workers.http.unreachable import UnreachableError
from workers.openai.server import open_openai
from workers.upstream import UpstreamError

JOB = RelayedJob(VERSION, "job-1", "chat/completions", "m", "key", b'{"messages":[]}')
CLOSED = 9
"""A port at which nothing listens."""
LOGIN = "407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 0"


async def failing(
    caplog: pytest.LogCaptureFixture, url: str, proxy: str = "", patience: float = 30.0
) -> dict[str, Any]:
    """Fields of the record about a server, or the proxy before it, that cannot be reached."""
    caplog.set_level(logging.DEBUG)
    config = settings.Upstream(
        kind="openai",
        base_url=url,
        credential=Secret("sk-secret"),
        proxy=proxy_url(proxy) if proxy else None,
        connect_timeout=patience,
        models={"m": "m"},
    )
    async with asyncio.timeout(60), open_openai("gpu", config) as server:
        with pytest.raises(UnreachableError) as caught:
            async with aclosing(server.answer(JOB)) as answer:
                _ = [event async for event in answer]
    assert "127.0.0.1" not in str(caught.value.failed), "which its client reads"
    [record] = [vars(each) for each in caplog.records if "upstream_unreachable" in str(vars(each))]
    assert "hunter2" not in caplog.text + str(record)
    assert "sk-secret" not in caplog.text + str(record)
    return record


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("http", b"", "it closed the connection without an answer"),
        ("http", b"SSH-2.0\r\n", "its answer is not HTTP"),
        ("https", b"HTTP/1.1 400 X\r\n\r\n", "TLS: the handshake failed: wrong version number"),
        ("https", None, "no connection in time (connect_timeout)"),
    ],
)
async def test_a_server_that_does_not_answer_as_expected(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    answer: bytes | None,
    reason: str,
) -> None:
    async with listening(answer) as port:
        patience = 30.0 if answer is not None else 0.5
        url = f"{scheme}://127.0.0.1:{port}/a-secret-prefix"
        record = await failing(caplog, url, patience=patience)
    assert record["reason"].startswith(reason)
    assert record["address"] == f"127.0.0.1:{port}"
    assert "a-secret-prefix" not in str(record)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "connection refused: no server listens there (127.0.0.1:9)"),
        ("no-such-host.invalid", "DNS: the host name cannot be resolved: "),
    ],
)
async def test_a_server_that_is_not_there(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, host: str, reason: str
) -> None:
    record = await failing(caplog, f"http://{host}:{CLOSED}")
    assert record["reason"].startswith(reason)
    assert f"({host}:{CLOSED})" in record["reason"]


async def test_a_certificate_that_is_not_trusted(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with listening(b"", untrusted(tmp_path)) as port:
        record = await failing(caplog, f"https://127.0.0.1:{port}")
    expected = f"TLS: its certificate is not trusted: self-signed certificate (127.0.0.1:{port})"
    assert record["reason"].replace("self signed", "self-signed") == expected


@pytest.mark.parametrize(
    ("server", "scheme", "answer", "reason"),
    [
        ("http", "http", f"HTTP/1.1 {LOGIN}\r\n\r\n", "the proxy refuses the user or password"),
        ("https", "http", f"HTTP/1.1 {LOGIN}\r\n\r\n", "the proxy refuses the user or password"),
        ("https", "http", "HTTP/1.1 502 X\r\n\r\n", "the proxy cannot reach the server (502)"),
        ("http", "socks5", "\x05\x7f", "the SOCKS proxy failed: "),
    ],
)
async def test_a_proxy_that_refuses(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    server: str,
    scheme: str,
    answer: str,
    reason: str,
) -> None:
    async with listening(answer.encode()) as port:
        proxy = f"{scheme}://user:hunter2@127.0.0.1:{port}"
        record = await failing(caplog, f"{server}://upstream.invalid", proxy)
    assert record["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("http", "connection refused: no server listens there (proxy 127.0.0.1:9)"),
        ("socks5", "the SOCKS proxy 127.0.0.1:9 cannot be connected to: Connection refused"),
    ],
)
async def test_a_proxy_that_is_not_there(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, scheme: str, reason: str
) -> None:
    proxy = f"{scheme}://user:hunter2@127.0.0.1:{CLOSED}"
    assert (await failing(caplog, "http://upstream.invalid", proxy))["reason"] == reason


async def test_a_connection_that_breaks_in_the_middle_of_an_answer(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n"
    async with listening(head + b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n') as port:
        config = settings.Upstream(kind="openai", base_url=f"http://127.0.0.1:{port}")
        async with open_openai("gpu", config) as server, aclosing(server.answer(JOB)) as answer:
            with pytest.raises(UpstreamError):
                _ = [event async for event in answer]
    [record] = [vars(each) for each in caplog.records if "broke_off" in str(vars(each))]
    named = {"job": JOB.id, "address": f"127.0.0.1:{port}", "reason": "it broke off its answer"}
    assert named.items() <= record.items()
