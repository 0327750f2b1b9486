"""Consequences of a server's errors: the side at fault, and the next state of the job. Pure.

| Status | Consequence |
|---|---|
| 401, 403 | our credential was refused: the job waits, or runs on another account |
| 402, or 429 for lack of money | the account may not use the model for a while |
| other 429, 529, 503 of a server that is full or loading | the job waits in its old place |
| 407, 408, 425, other 5xx, 500 that is not JSON | it is down: the job is tried again |
| 500 in JSON | mostly one request's fault: it is tried again once; four count as one failure |
| a redirect, which is never followed | `upstream.base_url` is wrong: the job fails |
| other 4xx, 501 | the client's request: it gets the error as it is |
"""

from __future__ import annotations

from wire.events import Failed
from workers.openai.error_object import ErrorObject
from workers.upstream import UpstreamBusy, UpstreamError

Refusal = UpstreamBusy | UpstreamError

OUT_OF_MONEY = 600.0
"""Seconds without requests to an account that has no money left, unless the server says more."""

_MONEY = ("insufficient_quota", "credit_balance_exhausted")
_NO_MONEY = "The upstream account has no quota left for this model. Try again later."

_FULL = (
    "busy",
    "overload",
    "maximum pending",
    "no slot",
    "queue is full",
    "too many",
    "capacity",
    "loading",
    "unavailable_error",
)
"""Words of a 503 from a server that works, but cannot take the request now."""

_TOO_LONG = (
    "exceed_context_size_error",
    "context_length_exceeded",
    "maximum context length",
    "exceeds the context length",
    "context window",
)
_TOO_LONG_CODE = "context_length_exceeded"

_NOTHING_THERE = ("", "not found", "file not found", "404 page not found")
"""Messages of servers that do not know a path, in contrast to a model."""


def judge(status: int, error: ErrorObject, pause: float | None = None, path: str = "") -> Refusal:
    """Return the exception for an error that came before anything of an answer.

    `pause`: seconds to wait as the server stated them. `path`: the path that was asked for, "" if
    the server has shown to know it.
    """
    match status:
        case 401 | 403:
            return UpstreamBusy(
                pause or 0.0, refused_us=True, aside="token_refused" if status == 401 else None
            )
        case 402 | 429 if status == 402 or _is_about_money(error):
            failed = Failed("rate_limited", _NO_MONEY, error.code or "insufficient_quota")
            return UpstreamError(failed, capped_for=max(pause or 0.0, OUT_OF_MONEY))
        case 429 | 529:
            return UpstreamBusy(pause or 0.0)
        case 503 if pause is not None or _has_any(error, _FULL):
            return UpstreamBusy(pause or 0.0)
        case 500 if error.is_json:
            return UpstreamError(failure(error, status), passing=True, retries=1, doubtful=True)
        case 407 | 408 | 425:  # 407 is an answer of the operator's proxy
            return UpstreamError(failure(error, status), passing=True)
        case _ if status == 501 or 400 <= status < 500:
            return UpstreamError(_bad_request(status, error, path))
        case _:
            return UpstreamError(failure(error, status), passing=status >= 500)


def failure(error: ErrorObject, status: int = 0) -> Failed:
    """Return the ending for an error that is not the client's fault, in the server's words."""
    answered = f"The upstream answered {status} without a message."
    message = error.message or (answered if status else "The upstream reported an error.")
    return Failed("upstream_error", message, "upstream_error", kind=error.kind, param=error.param)


def _bad_request(status: int, error: ErrorObject, path: str) -> Failed:
    message = error.message or f"The upstream refused the request with status {status}."
    if status == 404 and path and error.message.strip().lower() in _NOTHING_THERE:
        message = f"The model server does not offer /v1/{path}."
    code = _TOO_LONG_CODE if _has_any(error, _TOO_LONG) else error.code
    return Failed("bad_request", message, code, status=status, kind=error.kind, param=error.param)


def _is_about_money(error: ErrorObject) -> bool:
    names = [name for name in (error.code, error.kind) if name]
    return any(name in _MONEY or name.startswith("billing_") for name in names)


def _has_any(error: ErrorObject, words: tuple[str, ...]) -> bool:
    text = " ".join(filter(None, (error.message, error.kind, error.code))).lower()
    return any(word in text for word in words)
