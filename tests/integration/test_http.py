"""HTTP as clients of all kinds speak it, over raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest
from sanic.response import HTTPResponse

import settings
from app.http.connection import GatewayHttp
from app.http.framework import ApiErrors
from tests.support.line import LASTING
from tests.support.requests import BEARER, BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Started

MB = 1024 * 1024
SAID = json.dumps(BODY).encode()


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=LASTING,
        server=settings.Server(
            max_body_bytes=32 * MB, body_timeout=20.0, cors_origins=("*", "https://named.example")
        ),
        stream=settings.Stream(grace=0.2),
    )


def head(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    lines = (f"{method} {path} HTTP/{version}", "Host: x", "Authorization: Bearer a", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def exchange(client: Client, *sent: bytes) -> tuple[int, bytes, bytes]:
    """Send everything, then read: the status, the head and the body of the answer."""
    where = urlsplit(client.make_url(""))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        async with asyncio.timeout(30):
            for part in sent:
                writer.write(part)
                await writer.drain()
            answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return int(answer.split(b" ")[1]), answer.lower(), body


def post(*headers: str, body: bytes = SAID, version: str = "1.1") -> bytes:
    length = f"Content-Length: {len(body)}"
    return head("POST", CHAT, "Connection: close", length, *headers, version=version) + body


# ----- refused before the body was read


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/models", 405),
        ("POST", CHAT, 413),
    ],
)
async def test_a_refusal_reaches_a_client_that_sends_its_whole_body_first(
    front: Client, method: str, path: str, status: int
) -> None:
    announced = 40 * MB if status == 413 else 8 * MB
    sent = head(method, path, f"Content-Length: {announced}"), bytes(announced)
    seen, answer, body = await exchange(front, *sent)
    assert seen == status
    assert b"connection: close" in answer
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


async def test_a_refused_bearer_reaches_a_client_that_sends_its_whole_body_first(
    front: Client,
) -> None:
    unauthorized = head("POST", CHAT, f"Content-Length: {8 * MB}").replace(b"Bearer", b"Basic")
    status, _, _ = await exchange(front, unauthorized, bytes(8 * MB))
    assert status == 401


async def test_a_head_that_is_too_large_is_refused_though_more_follows(front: Client) -> None:
    large = head("POST", CHAT, "X: " + "x" * 20_000, f"Content-Length: {MB}")
    status, _, body = await exchange(front, large, bytes(MB))
    assert (status, json.loads(body)["error"]["code"]) == (431, "headers_too_large")


# ----- old clients, unusual forms


async def test_a_client_of_http_1_0_gets_a_stream_without_chunks(client: Client) -> None:
    streamed = json.dumps({**BODY, "stream": True}).encode()
    request = post(body=streamed, version="1.0").replace(b"Connection: close\r\n", b"")
    status, answer, body = await exchange(client, request)
    assert status == 200
    assert b"transfer-encoding" not in answer
    assert body.startswith(b'data: {"id":')
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_client_of_http_1_0_gets_a_whole_answer_with_its_length(client: Client) -> None:
    status, answer, body = await exchange(client, post(version="1.0"))
    assert status == 200
    assert b"content-length: %d" % len(body) in answer


@pytest.mark.parametrize("path", [f"/{CHAT}", "/v1//chat///completions", "//v1/chat/completions/"])
async def test_doubled_slashes_are_served(client: Client, path: str) -> None:
    request = post().replace(CHAT.encode(), path.encode())
    assert (await exchange(client, request))[0] == 200


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("chunked", b"%x\r\n%b\r\n0\r\n\r\n"),
        ("Chunked", b"%x\r\n%b\r\n0\r\n\r\n"),
        ("chunked", b"%x;name=value\r\n%b\r\n0;last\r\n\r\n"),
        ("chunked", b"%x\r\n%b\r\n0\r\nX-Checksum: 1\r\nX-More: 2\r\n\r\n"),
    ],
)
async def test_bodies_in_chunks_are_read_in_all_their_forms(
    client: Client, coding: str, sent: bytes
) -> None:
    request = head("POST", CHAT, "Connection: close", f"Transfer-Encoding: {coding}")
    assert (await exchange(client, request, sent % (len(SAID), SAID)))[0] == 200


async def test_no_request_follows_trailers_on_the_same_connection(client: Client) -> None:
    request = head("POST", CHAT, "Transfer-Encoding: chunked")
    body = b"%x\r\n%b\r\n0\r\nX: 1\r\n\r\n" % (len(SAID), SAID)
    _, answer, rest = await exchange(client, request, body + head("GET", "/v1/models"))
    assert b"connection: close" in answer
    assert b"HTTP/1.1" not in rest


async def test_a_byte_order_mark_before_the_json_is_left_out(client: Client) -> None:
    assert (await exchange(client, post(body=b"\xef\xbb\xbf" + SAID)))[0] == 200


@pytest.mark.parametrize("kind", ["images", "files"])
@pytest.mark.parametrize("stem", ["x" * 300, "x" * 5000, "%E6%A0%B7" * 100])
async def test_a_name_longer_than_any_file_system_takes_is_a_404(
    front: Client, kind: str, stem: str
) -> None:
    path = f"/{kind}/{'0' * 32}_{stem}.png"
    status, _, body = await exchange(front, head("GET", path, "Connection: close"))
    assert status == 404
    assert json.loads(body)["error"]["type"]


@pytest.mark.parametrize("value", ["\xff\xfe", "100-Continue", "200-ok", ""])
async def test_an_unknown_expectation_is_ignored(client: Client, value: str) -> None:
    status, _, _ = await exchange(client, post(f"Expect: {value}"))
    assert status in (100, 200)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding",
        "Expect", "Connection", "Host", "Origin", "Idempotency-Key", "Last-Event-ID", "X-Max-Wait",
        "X-Keepalive", "Accept", "Forwarded", "Upgrade",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["\xff\xfe", "Bearer \xff\xfe"])
async def test_odd_bytes_in_a_header_are_no_error_of_the_gateway(
    client: Client, name: str, value: str
) -> None:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Connection: close", f"{name}: {value}"]
    for usual in ("Host: x", "Authorization: Bearer a", f"Content-Length: {len(SAID)}"):
        if not usual.startswith(name):
            lines.append(usual)
    request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + SAID
    status, answer, body = await exchange(client, request)
    assert 200 <= status < 500
    assert b"content-type: application/json" in answer
    assert status == 200 or json.loads(body)["error"]["message"]


# ----- packed bodies


async def test_a_packed_body_is_answered(client: Client) -> None:
    request = post("Content-Encoding: gzip", body=gzip.compress(SAID))
    assert (await exchange(client, request))[0] == 200


async def test_a_body_that_becomes_too_large_is_refused_early(front: Client) -> None:
    bomb = gzip.compress(bytes(64 * MB))
    status, _, body = await exchange(front, post("Content-Encoding: gzip", body=bomb))
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")


async def test_an_unknown_encoding_is_a_415(front: Client) -> None:
    status, _, body = await exchange(front, post("Content-Encoding: compress"))
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (415, "unsupported_encoding")
    assert error["param"] == "Content-Encoding"


# ----- many connections, slow ones


def few(limit: int = 8, header_timeout: float = 30.0) -> settings.Settings:
    server = settings.Server(max_connections=limit, header_timeout=header_timeout)
    return settings.Settings(queue=LASTING, server=server)


async def connect(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(client.make_url(""))
    return await asyncio.open_connection(where.hostname, where.port)


@pytest.mark.parametrize("config", [few(16)], ids=["few connections"])
@pytest.mark.parametrize("said", [b"", b"GET /", head("POST", CHAT, "Content-Length: 99") + b"{"])
async def test_clients_that_never_send_a_whole_request_keep_nobody_out(
    front: Client, said: bytes
) -> None:
    slow = [await connect(front) for _ in range(40)]
    for _, writer in slow:
        writer.write(said)
    status, _, _ = await exchange(front, head("GET", "/v1/models", "Connection: close"))
    assert status == 200
    async with asyncio.timeout(30):
        for reader, _ in slow[:20]:  # those that waited the longest
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
    for _, writer in slow:
        writer.close()


async def test_no_answer_is_made_for_clients_that_are_gone(
    front: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, answered = asyncio.Semaphore(0), 0
    error_response, default = GatewayHttp.error_response, ApiErrors.default

    async def ending(connection: GatewayHttp, exception: Exception) -> None:
        try:
            await error_response(connection, exception)
        finally:
            ended.release()

    def answering(errors: ApiErrors, *failed: Any) -> HTTPResponse:
        nonlocal answered
        answered += 1
        return default(errors, *failed)

    monkeypatch.setattr(GatewayHttp, "error_response", ending)
    monkeypatch.setattr(ApiErrors, "default", answering)
    gone = [await connect(front) for _ in range(20)]
    for _, writer in gone:
        writer.write(b"GET /v1/mod")
    await exchange(front, head("GET", "/v1/models", "Connection: close"))
    for _, writer in gone:
        writer.transport.abort()
    async with asyncio.timeout(30):
        for _ in gone:
            await ended.acquire()
    assert answered == 0


@pytest.mark.parametrize("config", [few(16)], ids=["few connections"])
async def test_a_connection_beyond_the_limit_is_refused_in_words(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("a")], 600.0)
    streamed = json.dumps({**BODY, "stream": True}).encode()
    served = [await connect(client) for _ in range(16)]
    for number, (_, writer) in enumerate(served):
        request = head("POST", CHAT, f"Content-Length: {len(streamed)}") + streamed
        writer.write(request.replace(b"Bearer a", b"Bearer %d" % number))
    async with asyncio.timeout(30):
        for reader, _ in served:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    refused = await connect(client)
    async with asyncio.timeout(30):
        answer, _, body = (await refused[0].read()).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 5" in answer
    assert json.loads(body)["error"]["code"] == "too_many_connections"
    for _, writer in [*served, refused]:
        writer.close()


async def test_a_client_that_speaks_tls_is_refused_by_its_first_byte(
    front: Client, caplog: pytest.LogCaptureFixture
) -> None:
    where = urlsplit(front.make_url(""))
    context = ssl.create_default_context()
    connecting = asyncio.open_connection(where.hostname, where.port, ssl=context)
    with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|HTTP_REQUEST"):
        await asyncio.wait_for(connecting, 30)
    status, _, body = await exchange(front, b"\x16")
    assert status == 400
    assert "begins with http://" in json.loads(body)["error"]["message"]
    logged = [r for r in caplog.records if vars(r).get("event") == "tls_to_plain_port"]
    assert [vars(record)["address"] for record in logged] == ["127.0.0.1"] * 2


async def test_a_body_may_begin_as_tls_does(front: Client) -> None:
    body = b"\x16" + SAID
    status, _, said = await exchange(front, post(body=body)[: -len(body)], body)
    assert status == 400
    assert b"JSON" in said


@pytest.mark.parametrize("config", [few(header_timeout=0.6)], ids=["a short time"])
async def test_a_head_that_drips_in_has_a_deadline(front: Client) -> None:
    reader, writer = await connect(front)
    # Its first line alone: a byte that is sent to the closed connection resets it.
    answer = asyncio.ensure_future(reader.readline())
    writer.write(b"GET /v1/models HTTP/1.1\r\nX: ")
    for _ in range(300):
        writer.write(b"x")
        if (await asyncio.wait([answer], timeout=0.1))[0]:
            break
    assert (await answer).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_body_that_no_route_reads_delays_no_answer(front: Client) -> None:
    reader, writer = await connect(front)
    writer.write(head("GET", "/v1/models", "Content-Length: 99"))
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("length", ["+5", "0x5", "5_0", "\xd9\xa3", "-1", "", "5, 5"])
async def test_a_length_that_servers_read_in_different_ways_is_refused(
    front: Client, length: str
) -> None:
    announced = head("POST", CHAT, "Connection: close", f"Content-Length: {length}") + SAID
    assert (await exchange(front, announced))[0] == 400
    chunked = head("POST", CHAT, "Connection: close", "Transfer-Encoding: chunked")
    chunk = length.encode("latin-1") + b"\r\n" + SAID
    assert (await exchange(front, chunked + chunk))[0] == 400


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Content-Length : 9",
            "Content-Length\t: 9",
            " Content-Length: 9",
            "X:\r\n Content-Length: 9",
        ),
        *("Transfer-Encoding : chunked", "X: a\nContent-Length: 9", "X: a\rContent-Length: 9"),
        *("X: a\0", "X y: a", ": a", "\0Content-Length: 9", "Content-Length\xa0: 9"),
    ],
)
async def test_a_header_that_servers_read_in_different_ways_is_refused(
    front: Client, line: str
) -> None:
    reader, writer = await connect(front)
    inner = head("GET", "/v1/models")
    writer.write(head("POST", CHAT, f"Content-Type: application/json\r\n{line}") + inner)
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.parametrize("more", [["Authorization: Bearer b"], ["x-api-key: a", "X-API-Key: b"]])
async def test_two_headers_with_keys_are_refused(front: Client, more: list[str]) -> None:
    status, _, said = await exchange(front, head("POST", CHAT, "Connection: close", *more))
    assert (status, b"more than one" in said) == (401, True)


# ----- paths and methods


async def test_a_refused_method_names_the_allowed_ones(front: Client) -> None:
    refused = await front.get(CHAT, headers=BEARER)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_slash_after_models_or_one_of_them_makes_no_difference(front: Client) -> None:
    for path in ("/v1/models", "/v1/models/gpt-4"):
        assert (await front.get(f"{path}/")).json() == (await front.get(path)).json()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("body", [SAID, json.dumps({**BODY, "stream": True}).encode()])
async def test_no_header_of_an_answer_is_empty(client: Client, version: str, body: bytes) -> None:
    _, answer, _ = await exchange(client, post(body=body, version=version))
    headers = [line.partition(b":") for line in answer.split(b"\r\n")[1:]]
    assert len(headers) > 4
    assert [name for name, _, value in headers if not value.strip()] == []


async def test_an_empty_line_before_a_request_is_ignored(front: Client) -> None:
    """Old clients send one after the body of the request before."""
    ask, last = head("GET", "/v1/models"), head("GET", "/v1/models", "Connection: close")
    status, _, rest = await exchange(front, b"\r\n" + ask + b"\r\n", b"\r\n\r\n" + last)
    assert status == 200
    assert rest.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(("site", "allowed"), [("named", "true"), ("other", None)])
async def test_only_a_page_of_a_named_origin_may_call_into_a_private_network(
    front: Client, site: str, allowed: str | None
) -> None:
    asked = {
        "origin": f"https://{site}.example",
        "access-control-request-method": "POST",
        "access-control-request-private-network": "true",
    }
    preflight = await front.session.options(front.make_url(CHAT), headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers.get("access-control-allow-private-network") == allowed
