"""Errors before the stream: their fault, and the message to the client."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.events import Failed, Fault
from workers.pandora.refusals import DEFAULT_RETRY_AFTER, judge
from workers.pandora.translate.error_body import MAX_SENTENCE, read_error_body
from workers.retry_after import LONGEST
from workers.upstream import UpstreamBusy, UpstreamError

BUSY = "Only one message at a time. Please allow any other responses to complete."
CHALLENGE = b'<html><meta http-equiv="refresh"><form id="challenge-form">Please turn</form></html>'


def failed(
    status: int,
    body: object,
    content_type: str = "application/json",
    retry_after: str | None = None,
) -> Failed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    judged = judge(status, content_type, raw, retry_after)
    assert isinstance(judged, UpstreamError)
    return judged.failed


def coded(message: str, code: str, **more: object) -> dict[str, object]:
    return {"detail": {"message": message, "code": code, "param": None, **more}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            401,
            coded("Expired.", "token_expired"),
            Failed("unauthorized", "Expired.", "token_expired"),
        ),
        (401, {"message": "No token"}, Failed("unauthorized", "No token")),
        (401, {"detail": {"message": "No token"}}, Failed("unauthorized", "No token")),
        (
            403,
            coded("Deactivated.", "account_deactivated"),
            Failed("unauthorized", "Deactivated.", "account_deactivated"),
        ),
        (403, {"detail": "Unusual activity."}, Failed("forbidden", "Unusual activity.")),
        (
            404,
            coded("Conversation not found", "conversation_not_found"),
            Failed("upstream_error", "Conversation not found", "conversation_not_found"),
        ),
        (
            413,
            coded("Too long.", "message_length_exceeds_limit"),
            Failed("too_long", "Too long.", "message_length_exceeds_limit"),
        ),
        (413, {"detail": "Too long."}, Failed("too_long", "Too long.", "context_length_exceeded")),
        (
            400,
            coded("Too long.", "conversation_too_large"),
            Failed("too_long", "Too long.", "conversation_too_large"),
        ),
        (
            422,
            {"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "missing"}]},
            Failed("upstream_error", "body.model: field required", "missing"),
        ),
        (
            429,
            coded("Cap.", "model_cap_exceeded", clears_in=13078),
            Failed("rate_limited", "Cap.", "model_cap_exceeded", 13078.0),
        ),
        (429, {"detail": "Too many."}, Failed("rate_limited", "Too many.", None, 60.0)),
        (418, {"error": "Tea."}, Failed("upstream_error", "Tea.")),
        (500, {"detail": "Hmm..."}, Failed("upstream_error", "Hmm...")),
        (500, {"error": {"message": "E", "code": None}}, Failed("upstream_error", "E")),
        (503, b"no upstreams left", Failed("upstream_error", "no upstreams left")),
    ],
)
def test_each_refusal_has_its_fault_and_the_message_of_the_upstream(
    status: int, body: object, expected: Failed
) -> None:
    assert failed(status, body) == expected


def test_one_message_at_a_time_means_that_the_job_waits() -> None:
    for body in ({"detail": BUSY}, {"detail": {"message": BUSY}}, {"error": BUSY}):
        assert isinstance(judge(429, "application/json", json.dumps(body).encode()), UpstreamBusy)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (None, DEFAULT_RETRY_AFTER),
        ("Wed, 21 Oct 2015 07:28:00 GMT", DEFAULT_RETRY_AFTER),
        ("-3", DEFAULT_RETRY_AFTER),
        ("nan", DEFAULT_RETRY_AFTER),
        ("inf", DEFAULT_RETRY_AFTER),
        ("1_0", DEFAULT_RETRY_AFTER),
        ("9" * 400, DEFAULT_RETRY_AFTER),
        ("1000000000", LONGEST),
    ],
)
def test_a_rate_limit_lasts_as_long_as_its_header_says(header: str | None, seconds: float) -> None:
    assert failed(429, {"detail": "Too many."}, retry_after=header).retry_after == seconds


@pytest.mark.parametrize("clears_in", [0, -1, True, "soon", None, [1], 10**400])
def test_an_invalid_clears_in_is_ignored(clears_in: object) -> None:
    body = coded("Cap.", "model_cap_exceeded", clears_in=clears_in)
    assert failed(429, body, retry_after="9").retry_after == 9.0


@pytest.mark.parametrize("clears_in", [1e9, 1e15, 1e308, 10**30])
def test_no_limit_of_the_upstream_lasts_longer_than_a_day(clears_in: float) -> None:
    body = json.dumps(coded("Cap.", "model_cap_exceeded", clears_in=clears_in)).encode()
    error = judge(429, "application/json", body)
    assert isinstance(error, UpstreamError)
    assert error.capped_for == error.failed.retry_after == LONGEST


@pytest.mark.parametrize(
    ("status", "fault"), [(401, "unauthorized"), (403, "forbidden"), (502, "upstream_error")]
)
def test_a_web_page_is_never_passed_on(status: int, fault: Fault) -> None:
    for page in (CHALLENGE, b"<html><title>502: Bad gateway</title></html>", b"\n <!DOCTYPE html>"):
        for content_type in ("text/html", "text/plain"):
            said = failed(status, page, content_type)
            assert said.fault == fault
            assert "<" not in said.message
            assert len(said.message) > 10
    assert failed(403, CHALLENGE, "text/html").code == "cloudflare_challenge"


@pytest.mark.parametrize("body", [b"", b"   ", b"null", b"{}", b"[]", b"7", b'{"detail": {}}'])
def test_an_empty_body_still_gives_a_message(body: bytes) -> None:
    assert "500" in failed(500, body).message


def test_a_truncated_json_body_is_not_quoted() -> None:
    said = failed(422, b'{"detail":[{"ctx":{"doc":"the prompt')
    assert said.fault == "upstream_error"
    assert "prompt" not in said.message


def test_a_validation_error_does_not_quote_the_request() -> None:
    detail = [{"loc": ["body", 0], "msg": "Expecting value", "ctx": {"doc": "the prompt"}}]
    assert failed(422, {"detail": detail}).message == "body.0: Expecting value"


def test_a_long_message_is_truncated() -> None:
    for body in ({"detail": "x" * 5000}, b"x" * 5000):
        message = failed(500, body).message
        assert len(message) == MAX_SENTENCE
        assert message.endswith("…")


def test_an_account_that_answers_over_websocket_gets_that_error() -> None:
    said = failed(200, {"wss_url": "wss://x?access_token=secret", "response_id": "r"})
    assert said.fault == "upstream_error"
    assert "WebSocket, and upstream.transport does not allow that" in said.message
    assert "secret" not in said.message


def test_a_200_without_a_stream_is_an_error_with_its_message() -> None:
    assert failed(200, {"detail": "Welcome"}).message == "Welcome"
    assert failed(200, b"hello", "text/plain").message == "hello"
    assert "200 with a web page" in failed(200, b"<html>", "text/html").message
    assert failed(200, {"any": 1}).fault == "upstream_error"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "msg", "loc", "code", "clears_in"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_json_value_can_be_read_as_an_error_body(value: object) -> None:
    assert len(read_error_body(value).message) <= MAX_SENTENCE


@given(st.integers(200, 599), st.binary(max_size=80), st.text(max_size=10), st.text(max_size=5))
def test_any_response_can_be_mapped_to_a_failure(
    status: int, body: bytes, content_type: str, wait: str
) -> None:
    judged = judge(status, content_type, body, wait)
    assert isinstance(judged, UpstreamBusy) or judged.failed.message


def test_a_deeply_nested_body_can_be_mapped_to_a_failure() -> None:
    assert failed(500, b'{"detail":' * 100_000).fault == "upstream_error"
    assert failed(500, b'{"detail":' * 500 + b"1" + b"}" * 500).fault == "upstream_error"
