"""Errors of OpenAI-compatible servers: their shapes, and their consequences for the job."""

from __future__ import annotations

import json

import pytest

from tests.support.recorded_openai import recording
from wire.events import Failed
from workers.openai.error_object import MAX_MESSAGE, MAX_TEXT, ErrorObject, read_error
from workers.openai.judgement import OUT_OF_MONEY, Refusal, judge
from workers.openai.pause import read_duration, read_pause
from workers.retry_after import LONGEST
from workers.secret_text import NOT_SHOWN
from workers.upstream import UpstreamBusy, UpstreamError


def body(message: str = "Words.", **fields: object) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


def judged(status: int, content: bytes = b"", **headers: str) -> Refusal:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(status, read_error(content), read_pause(names), "embeddings")


def error(refusal: Refusal) -> UpstreamError:
    assert isinstance(refusal, UpstreamError)
    return refusal


def busy(refusal: Refusal) -> UpstreamBusy:
    assert isinstance(refusal, UpstreamBusy)
    return refusal


# The table of errors, in its order.


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422, 501, 409, 418])
def test_a_refused_request_goes_to_the_client_as_it_is(status: int) -> None:
    refused = error(judged(status, body(type="t", param="p", code="c")))
    assert refused.failed == Failed("bad_request", "Words.", "c", None, status, "t", "p")
    assert not refused.passing
    assert refused.capped_for is None


@pytest.mark.parametrize(
    "content",
    [
        body("request (3031 tokens) exceeds ...", type="exceed_context_size_error", code=400),
        body("Too long.", code="context_length_exceeded"),
        body("This model's maximum context length is 4096 tokens.", code=400),
    ],
)
def test_a_request_over_the_context_length_has_openais_code(content: bytes) -> None:
    failed = error(judged(400, content)).failed
    assert (failed.status, failed.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_our_credential_is_not_the_clients(status: int) -> None:
    assert busy(judged(status, body("Incorrect API key."))).refused_us


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (402, None),
        (429, "insufficient_quota"),
        (429, "credit_balance_exhausted"),
        (429, "billing_not_active"),
    ],
)
def test_an_account_without_money_is_not_asked_for_a_while(status: int, code: str | None) -> None:
    for content in (body(code=code), body(type=code)):
        refused = error(judged(status, content))
        assert refused.capped_for == OUT_OF_MONEY
        assert refused.failed.fault == "rate_limited"
        assert "Words" not in refused.failed.message  # it may name the operator's account
    assert error(judged(402, body(), Retry_After="7200")).capped_for == 7200


@pytest.mark.parametrize("status", [407, 408, 425])
def test_a_server_that_lost_the_request_is_asked_again(status: int) -> None:
    refused = error(judged(status, body()))
    assert refused.passing
    assert (refused.retries, refused.doubtful) == (None, False)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (429, body("Rate limit reached.", code="rate_limit_exceeded")),
        (429, b""),
        (529, body("Overloaded", type="overloaded_error")),
        (503, body("server busy, please try again.  maximum pending requests exceeded")),
        (503, body("The engine is currently busy and cannot accept new requests.", code=503)),
        (503, body("no slot available", type="unavailable_error", code=503)),
        (503, b'{"object":"error","message":"The request queue is full.","code":503}'),
        (
            503,
            b'{"detail":{"msg":"Server is busy; please try again","type":"service_unavailable"}}',
        ),
        (503, body("Loading model", type="unavailable_error", code=503)),
        (503, body("The model is warming up.", type="model_loading")),
    ],
)
def test_a_full_or_loading_server_lets_the_job_wait(status: int, content: bytes) -> None:
    assert busy(judged(status, content)).pause == 0.0
    assert busy(judged(status, content, Retry_After="7")).pause == 7.0
    assert not busy(judged(status, content)).refused_us


def test_a_503_with_a_time_is_a_full_server() -> None:
    assert busy(judged(503, body("Later."), Retry_After="3")).pause == 3.0


def test_a_500_in_json_is_tried_once_more_and_counts_for_nothing() -> None:
    for content in (body(type="server_error", code=500), b'{"error":"Words."}'):
        refused = error(judged(500, content))
        assert (refused.passing, refused.retries, refused.doubtful) == (True, 1, True)
        assert refused.failed.fault == "upstream_error"
        assert (refused.failed.message, refused.failed.code) == ("Words.", "upstream_error")
        assert refused.failed.status == 0  # a client gets 502, not the upstream's status


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524, 599])
@pytest.mark.parametrize("content", [b"Internal Server Error", b"<html>nginx</html>", b""])
def test_a_server_that_is_down_is_asked_again(status: int, content: bytes) -> None:
    refused = error(judged(status, content))
    assert (refused.passing, refused.retries, refused.doubtful) == (True, None, False)
    assert refused.failed.fault == "upstream_error"
    assert "nginx" not in refused.failed.message


def test_a_redirect_is_a_failure_that_another_try_does_not_change() -> None:
    refused = error(judged(307))
    assert refused.failed.fault == "upstream_error"
    assert not refused.passing


@pytest.mark.parametrize("content", [b'{"detail":"Not Found"}', b"404 page not found", b""])
def test_a_path_that_the_server_does_not_know_is_said_plainly(content: bytes) -> None:
    failed = error(judged(404, content)).failed
    assert failed.status == 404
    assert failed.message == "The model server does not offer /v1/embeddings."


# Shapes.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            body("A", type="t", param="p", code="c"),
            ErrorObject("A", "t", "p", "c", 0, is_json=True),
        ),
        (body("A", code=503), ErrorObject("A", None, None, "503", 503, is_json=True)),
        (body("A", code="429"), ErrorObject("A", None, None, "429", 429, is_json=True)),
        (body("A", code=200, type=5), ErrorObject("A", "5", None, "200", 0, is_json=True)),
        (body("A", code=True, param={}), ErrorObject("A", is_json=True)),
        (b'{"error":"A"}', ErrorObject("A", is_json=True)),
        (
            b'{"object":"error","message":"A","type":"t","code":400}',
            ErrorObject("A", "t", None, "400", 400, is_json=True),
        ),
        (b'{"detail":"A"}', ErrorObject("A", is_json=True)),
        (b'{"detail":{"msg":"A","type":"t"}}', ErrorObject("A", "t", is_json=True)),
        (
            b'{"detail":[{"loc":["body",10],"msg":"A","type":"t"},{}]}',
            ErrorObject("body.10: A", "t", is_json=True),
        ),
        (b'{"error":{"message":"A","trace":"secret"}}', ErrorObject("A", is_json=True)),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"A"}}',
            ErrorObject("A", "overloaded_error", status=529, is_json=True),
        ),
        (b"A\n", ErrorObject("A")),
        (b'"A"', ErrorObject("A")),
        (b"x" * 1000, ErrorObject("x" * MAX_TEXT)),
        (body("x" * 9000), ErrorObject("x" * MAX_MESSAGE, is_json=True)),
        (b"<html>a page</html>", ErrorObject()),
        (b'{"error":{"mess', ErrorObject()),
        (b"{}", ErrorObject(is_json=True)),
        (b"[" * 100_000, ErrorObject()),
        (b"\xff\xfe", ErrorObject("\ufffd\ufffd")),
        (b"", ErrorObject()),
    ],
)
def test_errors_are_read_from_any_shape(content: bytes, expected: ErrorObject) -> None:
    assert read_error(content).without(()) == expected


def test_an_error_with_a_secret_is_replaced() -> None:
    secrets = ("http://gpu:8080", "sk-secret")
    for text in ("no route to http://gpu:8080/v1", "bad key sk-secret"):
        for found in (ErrorObject(text), ErrorObject("A", param=text)):
            assert found.without(secrets) == ErrorObject(NOT_SHOWN)
    assert ErrorObject("harmless").without(secrets) == ErrorObject("harmless")


KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize("shown", range(len(KEY)))
@pytest.mark.parametrize("most", [MAX_TEXT, MAX_MESSAGE, 200])
def test_no_part_of_a_secret_is_shown_before_a_cut(most: int, shown: int) -> None:
    text = "x" * (most - shown) + KEY + "y"
    for content in (
        text.encode(),
        body(text),
        body(code=text),
        body(type=text),
        body(param=text),
        json.dumps({"error": text}).encode(),
        json.dumps({"detail": text}).encode(),
    ):
        assert read_error(content).without((KEY,)).message == NOT_SHOWN


def test_a_secret_that_its_server_has_cut_is_not_shown() -> None:
    assert ErrorObject("bad key sk-012345").without((KEY,)).message == NOT_SHOWN
    assert ErrorObject("no such task").without((KEY,)).message == "no such task"


# Times.


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "1e400"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "999999999"}, LONGEST),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7.66",
            },
            7.66,
        ),
    ],
)
def test_pauses_are_read_from_headers(headers: dict[str, str], pause: float | None) -> None:
    assert read_pause(headers) == pause


@pytest.mark.parametrize("text", ["", "s", "-1s", "1s2", "soon", "1x", "9" * 100 + "s", "1e9s"])
def test_other_durations_are_ignored(text: str) -> None:
    assert read_duration(text) is None


# Recordings of real servers.


@pytest.mark.parametrize(
    ("name", "fault", "code", "message"),
    [
        ("llama.cpp/error-bad-schema", "bad_request", "400", "Unable to generate parser"),
        ("llama.cpp/error-too-long", "bad_request", "context_length_exceeded", "request (3031"),
        ("llama.cpp/error-image-unsupported", "upstream_error", "upstream_error", "image input"),
        ("llama.cpp/embeddings-not-enabled", "bad_request", "501", "This server does not"),
        ("llama.cpp/error-404", "bad_request", "404", "The model server does not offer"),
        ("vllm/error-too-long-stream", "bad_request", "context_length_exceeded", "This model's"),
        ("vllm/error-model-unknown", "bad_request", "404", "The model `no-such-model`"),
        ("vllm/error-404", "bad_request", None, "The model server does not offer"),
        ("mlx-lm/error-bad-type", "bad_request", None, "max_tokens must be of type int"),
        ("mlx-lm/error-404", "bad_request", None, "The model server does not offer"),
        ("transformers-serve/error-not-json", "bad_request", None, "body.10: JSON decode error"),
        ("transformers-serve/error-model-unknown", "upstream_error", "upstream_error", "Internal"),
    ],
)
def test_recorded_errors(name: str, fault: str, code: str | None, message: str) -> None:
    recorded = recording(name)
    failed = error(judged(recorded.status, recorded.body)).failed
    assert (failed.fault, failed.code) == (fault, code)
    assert failed.message.startswith(message)


@pytest.mark.parametrize(
    "name", ["llama.cpp/key-missing", "llama.cpp/key-wrong", "vllm/key-missing"]
)
def test_recorded_refusals_of_a_credential(name: str) -> None:
    recorded = recording(name)
    assert busy(judged(recorded.status, recorded.body)).refused_us


def test_a_recorded_full_queue() -> None:
    recorded = recording("vllm/queue-full-3")
    assert busy(judged(recorded.status, recorded.body)).pause == 0.0
