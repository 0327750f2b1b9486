"""Headers that say how many requests a key may still make."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.http.allowance import allowance_headers, duration, timestamp
from app.openai.errors import refusal_error
from wire.line.admission import Allowance, Refused

LEFT = Allowance(60, 12, 59.5)


def request(path: str) -> Any:
    return SimpleNamespace(path=path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (59.5, "59.5s"), (60, "1m0s"), (360, "6m0s")],
)
def test_a_duration_has_the_form_of_openais_headers(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_end_of_a_time_is_a_whole_second_that_is_not_too_early() -> None:
    now = datetime(2030, 1, 31, 23, 59, 0, 1000, UTC)
    assert timestamp(59.5, now) == "2030-02-01T00:00:00Z"


def test_the_headers_are_those_of_the_dialect() -> None:
    assert allowance_headers(request("/v1/chat/completions"), LEFT) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "59.5s",
    }
    headers = allowance_headers(request("/prefix/v1/messages"), LEFT)
    assert headers.pop("anthropic-ratelimit-requests-reset").endswith("Z")
    assert headers == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "12",
    }
    assert allowance_headers(request("/v1/messages"), None) == {}


def test_a_key_at_its_limit_gets_openais_error() -> None:
    error = refusal_error(Refused("rate_limited", 12.3, allowance=LEFT))
    assert (error.http_status, error.code, error.allowance) == (429, "rate_limit_exceeded", LEFT)
    assert error.headers == {"retry-after": "13"}


def test_a_key_without_a_budget_is_not_asked_to_retry_by_itself() -> None:
    error = refusal_error(Refused("budget_spent", 30_000.0, kept=False))
    assert (error.http_status, error.code) == (429, "insufficient_quota")
    assert error.headers == {"retry-after": "30000", "x-should-retry": "false"}


def test_a_revoked_key_is_a_wrong_key() -> None:
    error = refusal_error(Refused("key_revoked", 0.0, kept=False))
    assert (error.http_status, error.code) == (401, "invalid_api_key")
