"""What the upstream says when it complains, out of any of the shapes it says it in.

Its errors, and those of the servers before it, come as `{"detail": "text"}`,
`{"detail": {"message", "code", "clears_in"}}`, `{"detail": [{"loc", "msg", "type"}]}`,
`{"error": "text" | {...}}`, `{"message": "text"}`, and in a stream as the bare value of `error`
(upstream-protocol.md, 3.3 and 4).
"""

from __future__ import annotations

import msgspec

from wire.events import Fault

MAX_SENTENCE = 500
"""Characters of an upstream sentence that are passed on to a client."""

_MAX_DEPTH = 4  # of wrappings around the sentence; two have been seen


class Complaint(msgspec.Struct, frozen=True):
    """A sentence for the client ("" if there is none), a code, and the seconds until it clears."""

    message: str = ""
    code: str | None = None
    clears_in: float | None = None


def read_complaint(value: object) -> Complaint:
    """The complaint in a decoded JSON value, an empty one if it holds nothing we know."""
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
        return Complaint(shorten(value))
    if not isinstance(value, dict):
        return Complaint()
    match value:
        case {"message": str(message)}:
            return Complaint(shorten(message), _code(value.get("code")), _seconds(value))
        case {"msg": str(message)}:
            # A validation error. Its `ctx` can quote the whole request and is left out.
            loc = value.get("loc")
            where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            sentence = f"{where}: {message}" if where else message
            return Complaint(shorten(sentence), _code(value.get("type")))
        case _:
            return Complaint("", _code(value.get("code")), _seconds(value))


def fault_of(complaint: Complaint) -> Fault:
    """Whose fault a complaint is that came without a status, inside a stream."""
    sentence = complaint.message.lower()
    if complaint.code == "account_deactivated":
        return "unauthorized"
    if "unusual activity" in sentence:
        return "forbidden"
    if (
        complaint.code == "model_cap_exceeded"
        or "too many" in sentence
        or "rate limit" in sentence
        or "only one message at a time" in sentence
    ):
        return "rate_limited"
    return "upstream_error"


def shorten(sentence: str) -> str:
    """The sentence, cut to what a client should have to read."""
    sentence = sentence.strip()
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"


def _code(value: object) -> str | None:
    return value[:100] if isinstance(value, str) and value else None


def _seconds(body: dict[object, object]) -> float | None:
    value = body.get("clears_in")
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(value)
