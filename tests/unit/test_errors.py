"""Errors as clients receive them: status, OpenAI's object, headers."""

from __future__ import annotations

import pytest

from app.openai.errors import ApiError, JobFailed, NoWorker, refusal_error
from wire.events import Failed
from wire.line.admission import RefusalReason, Refused


def message(error: ApiError) -> str:
    return error.object.error.message


@pytest.mark.parametrize("code", ["message_length_exceeds_limit", "conversation_too_large", None])
def test_a_context_that_is_too_long_is_said_as_openai_says_it(code: str | None) -> None:
    error = JobFailed(Failed("too_long", "Shorter, please.", code))
    assert (error.http_status, error.code, error.param) == (
        400,
        "context_length_exceeded",
        "messages",
    )
    assert error.error_type == "invalid_request_error"
    assert message(error).startswith("This model's maximum context length is ")
    assert message(error).endswith("Shorter, please.")


@pytest.mark.parametrize("reason", ["wait_too_long", "queue_full", "key_full", "model_capped"])
def test_a_refusal_says_when_to_come_back(reason: RefusalReason) -> None:
    error = refusal_error(Refused(reason, 41.2))
    assert message(error).endswith(" Retry in 42 seconds.")
    assert error.headers["retry-after"] == "42"


def test_an_error_that_passes_within_seconds_says_so() -> None:
    assert message(NoWorker()).endswith(" Retry in 5 seconds.")
    assert message(JobFailed(Failed("rate_limited", "Slow down.", None, 0.2))) == (
        "Slow down. Retry in 1 second."
    )


def test_an_error_without_a_time_names_none() -> None:
    assert message(JobFailed(Failed("upstream_error", "Oops."))) == "Oops."
