"""The upstream's error messages, read from any of the shapes they come in.

Its errors, and those of the servers before it, come as `{"detail": "text"}`,
`{"detail": {"message", "code", "clears_in"}}`, `{"detail": [{"loc", "msg", "type"}]}`,
`{"error": "text" | {...}}`, `{"message": "text"}`, and in a stream as the bare value of `error`
(upstream-protocol.md, 3.3 and 4).
"""

from __future__ import annotations

import msgspec

from wire.events import Fault
from workers.retry_after import read_retry_after

MAX_SENTENCE = 500
"""Characters of an upstream sentence that are passed on to a client."""

TOO_LONG_CODES = (
    "context_length_exceeded",
    "conversation_too_large",
    "message_length_exceeds_limit",
)

_MAX_DEPTH = 4  # of wrappings around the sentence; two have been seen


class ErrorBody(msgspec.Struct, frozen=True):
    """A sentence for the client ("" if there is none), a code, and the seconds until it clears."""

    message: str = ""
    code: str | None = None
    clears_in: float | None = None


def read_error_body(value: object) -> ErrorBody:
    """The error in a decoded JSON value, an empty one if it has no known shape."""
    for _ in range(_MAX_DEPTH):
        match value:
            case {"error": inner} if inner:
                value = inner
            case {"detail": inner} if inner:
                value = inner
            case [first, *_]:
                value = first
            case _:
                break
    if isinstance(value, str):
        return ErrorBody(shorten(value))
    if not isinstance(value, dict):
        return ErrorBody()
    code, clears_in = _code(value.get("code")), read_retry_after(value.get("clears_in"))
    match value:
        case {"message": str(message)}:
            return ErrorBody(shorten(message), code, clears_in)
        case {"msg": str(message)}:
            # A validation error. Its `ctx` can quote the whole request and is left out.
            loc = value.get("loc")
            field = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            sentence = f"{field}: {message}" if field else message
            return ErrorBody(shorten(sentence), _code(value.get("type")))
        case _:
            return ErrorBody("", code, clears_in)


def fault_of(error: ErrorBody) -> Fault:
    """The fault behind an error that came without a status, inside a stream."""
    sentence = error.message.lower()
    if error.code == "account_deactivated":
        return "unauthorized"
    if error.code in TOO_LONG_CODES:
        return "too_long"
    if "unusual activity" in sentence:
        return "forbidden"
    if (
        error.code == "model_cap_exceeded"
        or "too many" in sentence
        or "rate limit" in sentence
        or "only one message at a time" in sentence
    ):
        return "rate_limited"
    return "upstream_error"


def shorten(sentence: str) -> str:
    """Cut a sentence to a length that can be shown to a client."""
    sentence = sentence.strip()
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"


def _code(value: object) -> str | None:
    return value[:100] if isinstance(value, str) and value else None
