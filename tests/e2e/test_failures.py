"""Errors that clients get for their own requests and for upstream failures."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway

HELLO = {"model": "gpt-4-s", "messages": [{"role": "user", "content": "[[sim words=2]]"}]}
PART_WITHOUT_TEXT = {"role": "user", "content": [{"type": "text"}]}
CHAT = "/v1/chat/completions"


def post(gateway: Gateway, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"authorization": "Bearer one", "content-type": "application/json"}
    return httpx.post(
        f"{gateway.url}{CHAT}", content=content, headers={**given, **(headers or {})}, timeout=20
    )


def error(response: httpx.Response) -> dict[str, Any]:
    """The error object, which every refusal must be."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    found: dict[str, Any] = body["error"]
    return found


def ask(client: OpenAI, prompt: str, *, stream: bool = False) -> Any:
    return client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": prompt}], stream=stream
    )


# Bad input


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b'{"model": "gpt-4-s"', None),
        (b"[]", None),
        (b'{"model":"gpt-4-s","messages":[{"role":"user","content":"\xff\xfe"}]}', None),
        (b'{"model":"gpt-4-s","messages":[{"role":"user","content":"\\ud800"}]}', None),
        (b'{"model":"gpt-4-s","messages":' + b"[" * 100_000, "messages[0]"),
        (b'{"x":' + b'{"x":' * 100_000, None),
        ({"messages": HELLO["messages"]}, "model"),
        ({**HELLO, "messages": []}, "messages"),
        ({**HELLO, "messages": "hi"}, "messages"),
        ({**HELLO, "messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({**HELLO, "messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({**HELLO, "messages": [PART_WITHOUT_TEXT]}, "messages[0].content[0].text"),
        ({**HELLO, "messages": [{"role": "user", "content": None}]}, "messages"),
        ({**HELLO, "model": 4}, "model"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)  # fmt: skip
def test_a_bad_body_is_a_400_that_names_the_field(
    gateway: Gateway, body: Any, param: str | None
) -> None:
    response = post(gateway, body)
    assert response.status_code == 400
    assert error(response)["param"] == param
    assert post(gateway, HELLO).status_code == 200, "the server goes on"


def test_unknown_fields_are_accepted(gateway: Gateway) -> None:
    extra = {"temperature": 1, "wild": {"a": [1]}, "messages": [{**HELLO["messages"][0], "x": 1}]}  # type: ignore[dict-item]
    assert post(gateway, {**HELLO, **extra}).status_code == 200


@pytest.mark.parametrize("bearer", ["", "Basic abc", "Bearer", "Bearer a b", "Bearer a\tb"])
def test_a_missing_or_malformed_bearer_is_a_401(gateway: Gateway, bearer: str) -> None:
    response = post(gateway, HELLO, {"authorization": bearer})
    assert response.status_code == 401
    assert error(response)["code"] == "invalid_api_key"


def test_a_refusal_is_read_by_a_client_that_still_sends_a_large_body(gateway: Gateway) -> None:
    picture = {"url": "data:image/png;base64," + "A" * 8_000_000}
    hello: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": picture}]}]
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="no bearer", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-4", messages=hello)
        with pytest.raises(openai.NotFoundError, match="Use `/v1/chat/completions`"):
            client.with_options(base_url=gateway.url).chat.completions.create(
                model="gpt-4", messages=hello
            )


def test_an_unknown_model_is_not_listed_and_yet_answers(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-9")
    assert refused.value.code == "model_not_found"
    hello = [{"role": "user", "content": "[[sim words=2]]"}]
    assert client.chat.completions.create(model="gpt-9", messages=hello).model == "gpt-9"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/chat/completions/x", 404),
        ("GET", CHAT, 405),
        ("GET", "/v1/images/generations", 405),
        ("GET", "/v1/queue/abc", 401),
    ],
)
def test_an_unknown_path_or_method_is_an_error_object(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    response = httpx.request(method, f"{gateway.url}{path}")
    assert response.status_code == status
    error(response)


def test_a_body_over_the_limit_is_a_413(gateway: Gateway) -> None:
    body = {**HELLO, "padding": "x" * (20 * 1024 * 1024)}
    response = post(gateway, body)
    assert response.status_code == 413
    assert error(response)["code"] == "request_too_large"


def raw(gateway: Gateway, sent: bytes, *, end: bool = False) -> bytes:
    """Everything received on a plain socket until the server closes it."""
    where = urlsplit(gateway.url)
    with closing(socket.create_connection((where.hostname, where.port), 10)) as connection:
        connection.sendall(sent)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"this is not http\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/9.9\r\n\r\n", 400),
        ("GET /h\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (b"GET /healthz HTTP/1.1\r\nno-colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 7x\r\n\r\n", 400),
        (
            b"POST " + CHAT.encode() + b" HTTP/1.1\r\nAuthorization: Bearer a\r\n"
            b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
            413,
        ),
        (
            b"POST " + CHAT.encode() + b" HTTP/1.1\r\nAuthorization: Bearer a\r\n"
            b"Content-Length: 99999999\r\nConnection: close\r\n\r\nslow",
            413,
        ),
        (
            b"POST " + CHAT.encode() + b" HTTP/1.1\r\nAuthorization: Bearer a\r\n"
            b"Content-Length: 100\r\nConnection: close\r\n\r\n{\"model\":",
            408,
        ),
    ],
)  # fmt: skip
def test_a_malformed_http_request_gets_an_error_object(
    gateway: Gateway, sent: bytes, status: int
) -> None:
    received = raw(gateway, sent)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert b"x-request-id: req_" in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200


def test_health_checks_answer_head_requests(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/v1/models"):
        assert httpx.head(f"{gateway.url}{path}").status_code == 200


def test_cors_allows_browsers_every_method_and_header(gateway: Gateway) -> None:
    preflight = httpx.options(
        f"{gateway.url}{CHAT}",
        headers={
            "origin": "https://chat.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-os",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    for body in (HELLO, {}, {**HELLO, "stream": True}):
        answer = post(gateway, body, {"origin": "https://chat.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


# The upstream's errors


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("token_expired", 401, "token_expired"),
        ("invalid_jwt", 401, "invalid_jwt"),
        ("deactivated", 401, "account_deactivated"),
        ("no_token", 401, "invalid_api_key"),
        ("unusual_activity", 403, "upstream_forbidden"),
        ("cloudflare", 403, "cloudflare_challenge"),
        ("too_long", 400, "context_length_exceeded"),
        ("cap", 429, "model_cap_exceeded"),
        ("rate", 429, "rate_limit_exceeded"),
        ("validation", 502, "value_error.missing"),
        ("oops", 502, "upstream_error"),
        ("bad_gateway", 502, "upstream_error"),
        ("unavailable", 502, "upstream_error"),
    ],
)
def test_an_upstream_refusal_keeps_its_meaning_and_a_real_status(
    client: OpenAI, name: str, status: int, code: str, *, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, f"[[sim error={name}]]", stream=stream)
    assert refused.value.status_code == status
    assert refused.value.code == code


def test_a_used_up_model_has_a_retry_after_and_tells_sdks_not_to_retry(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client, "[[sim error=cap clears_in=1234]]")
    assert refused.value.response.headers["retry-after"] == "1234"
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("reset", 502, "upstream_unreachable"),
        ("hang", 504, "upstream_timeout"),
        ("silence", 504, "upstream_timeout"),
        ("cut at=700", 502, None),
        ("unfinished_eof", 502, None),
        ("error_before", 403, None),
    ],
)
def test_an_upstream_failure_before_the_answer_is_an_error_with_its_status(
    client: OpenAI, fault: str, status: int, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        ask(client, f"[[sim words=5 fault={fault}]]")
    assert failed.value.status_code == status
    if code:
        assert failed.value.code == code


@pytest.mark.parametrize(
    "fault", ["cut at=6000", "unfinished_eof", "error_after", "silence at_word=3"]
)
def test_an_answer_that_breaks_off_ends_with_an_error_and_without_done(
    gateway: Gateway, fault: str
) -> None:
    prompt = f"[[sim words=20 interval=0.005 fault={fault}]]"
    body = {**HELLO, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    response = post(gateway, body)
    assert response.status_code == 200
    *chunks, last = [m for m in response.text.split("\n\n") if m.startswith("data: ")]
    assert set(json.loads(last.removeprefix("data: "))) == {"error"}
    assert "[DONE]" not in response.text
    assert any('"content":"w0' in chunk for chunk in chunks)


@pytest.mark.parametrize("fault", ["no_done", "done_unfinished", "only_finished"])
def test_an_unusual_end_of_a_complete_answer_is_not_an_error(client: OpenAI, fault: str) -> None:
    answer = ask(client, f"[[sim words=5 fault={fault}]]")
    assert answer.choices[0].message.content == "w0 w1 w2 w3 w4"
    assert answer.choices[0].finish_reason == "stop"


def test_a_job_of_a_busy_account_is_retried_until_the_account_is_free(
    gateway: Gateway, client: OpenAI
) -> None:
    httpx.post(
        f"{gateway.simulator}/simulator/script",
        json={"error": "busy", "bearer": client.api_key, "times": 1},
    ).raise_for_status()
    answer = ask(client, "no directive, so the script above decides")
    assert answer.choices[0].finish_reason == "stop"
    assert gateway.stats()["started"] == 1


def test_nothing_secret_is_printed_by_any_role(gateway: Gateway) -> None:
    secrets = ("bearer-of-a-bot", "my secret prompt", "my secret answer")
    headers = {"authorization": f"Bearer {secrets[0]}"}
    for directive in ("echo=1", "error=oops", "fault=reset", "error=token_expired"):
        prompt = f"[[sim {directive}]]my secret prompt, my secret answer"
        post(gateway, {**HELLO, "messages": [{"role": "user", "content": prompt}]}, headers)
    post(gateway, b'{"model": "my secret prompt', headers)
    printed = gateway.printed()
    assert not [secret for secret in secrets if secret in printed]
