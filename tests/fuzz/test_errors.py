"""Errors of upstreams in any shape, and the forms in which clients get them."""

from __future__ import annotations

import json
import math
from typing import get_args

import msgspec
from hypothesis import strategies as st

import workers.openai.judgement
import workers.pandora.refusals
from app.anthropic.errors import message_error, message_status
from app.openai.dialect import RenderOptions
from app.openai.errors import JobFailed
from app.openai.responses.rendering import error_code
from app.relayed.form import Head
from app.relayed.forms import FORMS
from app.relayed.rendering import RelayedRendering
from tests.support.fuzzing import ODD, ODD_TEXTS, Json, bodies, fuzzed
from wire.events import Failed, Fault
from workers.openai.error_object import MAX_MESSAGE, read_error
from workers.pandora.translate.error_body import read_error_body
from workers.retry_after import LONGEST, read_retry_after
from workers.upstream import UpstreamBusy, UpstreamError

SECRET = "sk-secret-of-the-operator"
_INNER = {"message": "m", "type": "invalid_request_error", "param": "p", "code": 400}
ERRORS: list[Json] = [
    {"error": _INNER},
    {"error": {**_INNER, "code": "context_length_exceeded", "message": SECRET}},
    {"error": f"text {SECRET}"},
    {"object": "error", **_INNER},
    {"detail": "text"},
    {"detail": {"message": "m", "code": "model_cap_exceeded", "clears_in": 9.5}},
    {"detail": [{"loc": ["body", "a", 0], "msg": "bad", "type": "value_error", "ctx": {}}]},
    {"message": "m", "code": "insufficient_quota"},
    {"wss_url": "wss://h"},
    ["text"],
    "text",
]
_STATUSES = st.sampled_from([200, 302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 501, 503, 529])
_TIMES = st.one_of(
    st.none(), ODD_TEXTS, st.sampled_from(["9", "-1", "1e9", "9" * 400, "٣", "nan", "Wed, 21 Oct"])
)
_TYPES = st.sampled_from(["application/json", "text/html", "text/plain", "", "html"])


def check(refusal: UpstreamBusy | UpstreamError, longest: int) -> None:
    """Check the failure of a job as its client may get it."""
    if isinstance(refusal, UpstreamBusy):
        assert 0 <= refusal.pause <= LONGEST
        return
    failed = refusal.failed
    assert refusal.capped_for is None or 0 < refusal.capped_for <= LONGEST
    assert failed.retry_after is None or 0 < failed.retry_after <= LONGEST
    assert 0 < len(failed.message) <= longest + 100
    assert "<html" not in failed.message.lower()
    check_forms(failed)


def check_forms(failed: Failed) -> None:
    """Check the error that each dialect makes of a failure, as a body and in a stream."""
    failure = JobFailed(failed)
    assert 400 <= failure.http_status < 600
    assert 400 <= message_status(failure) < 600
    assert all(value.isascii() and "\n" not in value for value in failure.headers.values())
    error = json.loads(msgspec.json.encode(failure.object))["error"]
    assert error["message"]
    assert error["type"]
    assert json.loads(msgspec.json.encode(message_error(failure)))["error"]["message"]
    assert error_code(failure)
    for form in FORMS.values():
        shown = RelayedRendering(form(Head("id", 1, "m")), RenderOptions()).error(failure)
        for line in shown.decode().split("\n"):
            if line.startswith("data: "):
                json.loads(line.removeprefix("data: "))


@fuzzed(_STATUSES, bodies(ERRORS) | st.binary(max_size=40), _TIMES)
def test_an_error_of_a_server_is_judged(status: int, body: bytes, retry_after: str | None) -> None:
    error = read_error(body).without([SECRET])
    assert SECRET not in str(error)
    assert len(error.message) <= MAX_MESSAGE
    assert all(len(name or "") <= 200 for name in (error.kind, error.param, error.code))
    pause = read_retry_after(retry_after)
    check(workers.openai.judgement.judge(status, error, pause, "chat/completions"), MAX_MESSAGE)


@fuzzed(_STATUSES, _TYPES, bodies(ERRORS) | st.binary(max_size=40), _TIMES)
def test_an_error_of_pandora_is_judged(
    status: int, content_type: str, body: bytes, retry_after: str | None
) -> None:
    check(workers.pandora.refusals.judge(status, content_type, body, retry_after), 500)


@fuzzed(ODD)
def test_an_error_in_a_stream_of_pandora_is_read(value: Json) -> None:
    error = read_error_body(value)
    assert len(error.message) <= 500
    assert len(error.code or "") <= 100


@fuzzed(ODD)
def test_a_time_to_wait_is_a_number_of_seconds_or_not_known(value: Json) -> None:
    seconds = read_retry_after(value)
    assert seconds is None or (math.isfinite(seconds) and 0 < seconds <= LONGEST)


_FAILED = st.builds(
    Failed,
    st.sampled_from(get_args(Fault)),
    st.text(min_size=1, max_size=20),
    st.none() | st.text(max_size=9),
    st.none() | st.floats(0.001, LONGEST),
    st.sampled_from([0, 400, 404, 413, 429, 501]),
    st.none() | st.text(min_size=1, max_size=9),
    st.none() | st.text(max_size=9),
)


@fuzzed(_FAILED)
def test_a_failure_has_a_form_in_each_dialect(failed: Failed) -> None:
    check_forms(failed)
