"""Headers that say how many requests a key may still make, in the dialect of the request's path."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from sanic import Request

from app.http.dialect import is_message
from wire.line.admission import Allowance

NAMES = (
    *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-requests-{what}" for what in ("limit", "remaining", "reset")),
)
"""All of them."""


def allowance_headers(request: Request | None, allowance: Allowance | None) -> dict[str, str]:
    """Return the headers of an answer; none for a key without a limit."""
    if allowance is None:
        return {}
    is_anthropic = is_message(request)
    names = NAMES[3:] if is_anthropic else NAMES[:3]
    reset = timestamp(allowance.reset) if is_anthropic else duration(allowance.reset)
    values = str(allowance.limit), str(allowance.remaining), reset
    return dict(zip(names, values, strict=True))


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: `120ms`, `1s`, `6m0s`."""
    millis = math.ceil(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms"
    minutes, millis = divmod(millis, 60_000)
    left = f"{millis / 1000:g}s"
    return f"{minutes}m{left}" if minutes else left


def timestamp(seconds: float, now: datetime | None = None) -> str:
    """Return the time after the given number of seconds as Anthropic writes it (RFC 3339)."""
    at = (now or datetime.now(UTC)) + timedelta(seconds=seconds + 1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
