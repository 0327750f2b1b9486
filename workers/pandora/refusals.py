"""An upstream answer that is no event stream, judged: whose fault, and what to tell the client.

Statuses, codes and sentences after upstream-protocol.md, section 4. HTML is never passed on, and
neither is JSON that was cut: it may quote the request.
"""

from __future__ import annotations

import msgspec

from wire.events import Failed, Fault
from workers.pandora.translate.error_body import Complaint, read_complaint, shorten
from workers.pandora.translate.turn import BROKEN_OFF
from workers.upstream import UpstreamBusy, UpstreamError

DEFAULT_RETRY_AFTER = 60.0
"""Seconds, when the upstream limits an account without saying for how long."""

_CLOUDFLARE = (
    "The upstream's gatekeeper (Cloudflare) refused this server's address and sent a web page."
)
_WEBSOCKET = "This account answers over WebSocket, and upstream.transport does not allow that."
_NO_SUCH_ADDRESS = (
    "The upstream knows no such address. Check upstream.base_url and upstream.api_prefix."
)
_TOO_LONG_CODES = ("message_length_exceeds_limit", "conversation_too_large")


def judge(
    status: int, content_type: str, body: bytes, retry_after: str | None = None
) -> UpstreamBusy | UpstreamError:
    """The error to raise for an answer with this status, media type, body and `Retry-After`.

    The body may be cut, empty, or not what its type says.
    """
    value = _decode(body)
    complaint = _read(status, content_type, body, value)

    if status == 200:
        if isinstance(value, dict) and "wss_url" in value:
            return _error("upstream_error", Complaint(_WEBSOCKET, "websocket_refused"))
        sentence = complaint.message or f"The upstream answered with {content_type} and no events."
        return _error("upstream_error", Complaint(sentence, complaint.code))

    sentence = complaint.message or f"The upstream answered {status} without saying why."
    said = Complaint(sentence, complaint.code, complaint.clears_in)
    if said.code in _TOO_LONG_CODES:
        return _error("too_long", said)
    match status:
        case 401:
            return _error("unauthorized", said)
        case 403 if said.code == "account_deactivated":
            return _error("unauthorized", said)
        case 403:
            return _error("forbidden", said)
        case 413:
            return _error("too_long", Complaint(sentence, said.code or "context_length_exceeded"))
        case 429 if "only one message at a time" in sentence.lower():
            return UpstreamBusy()
        case 429:
            wait = said.clears_in or _seconds(retry_after) or DEFAULT_RETRY_AFTER
            return _error("rate_limited", said, wait)
        case 404 if said.code is None:
            return _error("upstream_error", Complaint(_NO_SUCH_ADDRESS, "upstream_not_found"))
        case _:
            # 422 and its like are about our payload, not about what the client sent.
            return _error("upstream_error", said, passing=status >= 500)


def _error(
    fault: Fault, said: Complaint, retry_after: float | None = None, passing: bool = False
) -> UpstreamError:
    return error_of(Failed(fault, said.message, said.code, retry_after), passing=passing)


def error_of(failed: Failed, *, passing: bool = False) -> UpstreamError:
    """The error to raise for a failure, in a status of its own or within an event stream."""
    passing = passing or failed.fault == "upstream_down" or failed is BROKEN_OFF
    capped = failed.retry_after if failed.code == "model_cap_exceeded" else None
    return UpstreamError(failed, passing=passing, capped_for=capped)


def _decode(body: bytes) -> object:
    """The body as a JSON value, UNSET if it is none."""
    try:
        value: object = msgspec.json.decode(body.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return msgspec.UNSET
    return value


def _read(status: int, content_type: str, body: bytes, value: object) -> Complaint:
    if value is not msgspec.UNSET:
        return read_complaint(value)
    head = body.lstrip()[:1]
    if "html" in content_type or head == b"<":
        if b"_cf_chl_opt" in body or b"cf-please-wait" in body or b"challenge-form" in body:
            return Complaint(_CLOUDFLARE, "cloudflare_challenge")
        return Complaint(f"The upstream answered {status} with a web page instead of an answer.")
    if head in (b"{", b"["):
        return Complaint(f"The upstream answered {status} with an error that arrived damaged.")
    return Complaint(shorten(body.decode("utf-8", "replace")))


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds. Its other form, a date, would need a clock that agrees."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
