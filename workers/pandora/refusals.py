"""The failure behind an upstream response that is not an event stream.

Statuses, codes and sentences after upstream-protocol.md, section 4. HTML is never passed on, and
neither is truncated JSON: it may quote the request.
"""

from __future__ import annotations

import msgspec

from wire.events import Failed, Fault
from workers.pandora.translate.error_body import (
    TOO_LONG_CODES,
    ErrorBody,
    read_error_body,
    shorten,
)
from workers.retry_after import read_retry_after
from workers.upstream import BROKEN_OFF, NO_ANSWER, UpstreamBusy, UpstreamError

DEFAULT_RETRY_AFTER = 60.0
"""Seconds, when the upstream limits an account without giving a time."""

_CLOUDFLARE = (
    "The upstream's gatekeeper (Cloudflare) refused this server's address and sent a web page."
)
_WEBSOCKET = "This account answers over WebSocket, and upstream.transport does not allow that."
_NO_SUCH_ADDRESS = (
    "The upstream knows no such address. Check upstream.base_url and upstream.api_prefix."
)


def judge(
    status: int, content_type: str, body: bytes, retry_after: str | None = None
) -> UpstreamBusy | UpstreamError:
    """The error to raise for a response with this status, media type, body and `Retry-After`.

    The body may be truncated, empty, or of another type.
    """
    value = _decode(body)
    error = _read(status, content_type, body, value)

    if status == 200:
        if isinstance(value, dict) and "wss_url" in value:
            return _error("upstream_error", ErrorBody(_WEBSOCKET, "websocket_refused"))
        sentence = error.message or f"The upstream answered with {content_type} and no events."
        return _error("upstream_error", ErrorBody(sentence, error.code))

    sentence = error.message or f"The upstream answered {status} without a message."
    error = ErrorBody(sentence, error.code, error.clears_in)
    if error.code in TOO_LONG_CODES:
        return _error("too_long", error)
    match status:
        case 401:
            return _error("unauthorized", error)
        case 403 if error.code == "account_deactivated":
            return _error("unauthorized", error)
        case 403:
            return _error("forbidden", error)
        case 413:
            return _error("too_long", ErrorBody(sentence, error.code or "context_length_exceeded"))
        case 429 if "only one message at a time" in sentence.lower():
            return UpstreamBusy()
        case 429:
            wait = error.clears_in or read_retry_after(retry_after) or DEFAULT_RETRY_AFTER
            return _error("rate_limited", error, wait)
        case 404 if error.code is None:
            return _error("upstream_error", ErrorBody(_NO_SUCH_ADDRESS, "upstream_not_found"))
        case _:
            # 422 and its like are about our payload, not about the client's request.
            return _error("upstream_error", error, passing=status >= 500)


def _error(
    fault: Fault, error: ErrorBody, retry_after: float | None = None, passing: bool = False
) -> UpstreamError:
    return error_of(Failed(fault, error.message, error.code, retry_after), passing=passing)


def error_of(failed: Failed, *, passing: bool = False) -> UpstreamError:
    """The error to raise for a failure, in a status of its own or within an event stream."""
    passing = passing or failed.fault == "upstream_down" or failed in (BROKEN_OFF, NO_ANSWER)
    capped = failed.retry_after if failed.code == "model_cap_exceeded" else None
    return UpstreamError(failed, passing=passing, capped_for=capped)


def _decode(body: bytes) -> object:
    """The body as a JSON value, UNSET if it is not JSON."""
    try:
        value: object = msgspec.json.decode(body.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return msgspec.UNSET
    return value


def _read(status: int, content_type: str, body: bytes, value: object) -> ErrorBody:
    if value is not msgspec.UNSET:
        return read_error_body(value)
    head = body.lstrip()[:1]
    if "html" in content_type or head == b"<":
        if b"_cf_chl_opt" in body or b"cf-please-wait" in body or b"challenge-form" in body:
            return ErrorBody(_CLOUDFLARE, "cloudflare_challenge")
        return ErrorBody(f"The upstream answered {status} with a web page instead of an answer.")
    if head in (b"{", b"["):
        return ErrorBody(f"The upstream answered {status} with a damaged error message.")
    return ErrorBody(shorten(body.decode("utf-8", "replace")))
