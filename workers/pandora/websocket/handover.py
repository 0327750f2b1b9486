"""Where an answer comes that its POST only announces: the account's WebSocket and our part of it.

The address carries the user it is for in its token (a JWT). One bearer may stand for several users,
as a pool does, and each has a socket of its own. Pure, like what is beside it.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import msgspec


class Address(msgspec.Struct, frozen=True):
    """Where a user's WebSocket is. `expires_at` is a POSIX time, None if it was not said.

    Whoever has `url` can read along, so it is never shown.
    """

    url: str
    user: str
    expires_at: float | None = None

    def __repr__(self) -> str:
        return "Address(...)"


class Handover(msgspec.Struct, frozen=True):
    """An answer that comes in frames. One of the first two ids is not ""."""

    response_id: str
    conversation_id: str
    request_id: str | None
    address: Address | None


class _Said(msgspec.Struct, frozen=True):
    wss_url: str | None = None
    expires_at: str | None = None
    response_id: str | None = None
    conversation_id: str | None = None
    websocket_request_id: str | None = None


class _Claims(msgspec.Struct, frozen=True):
    sub: str = ""


def read_address(body: bytes) -> Address | None:
    """The address in the answer of register-websocket; None if it is none we can use."""
    said = _decode(body)
    return _address(said) if said is not None else None


def read_handover(body: bytes) -> Handover | None:
    """What a conversation's POST said with 200 and JSON; None if no answer comes in frames."""
    said = _decode(body)
    if said is None or not (said.response_id or (said.wss_url and said.conversation_id)):
        return None
    return Handover(
        said.response_id or "",
        said.conversation_id or "",
        said.websocket_request_id,
        _address(said),
    )


def _decode(body: bytes) -> _Said | None:
    try:
        return msgspec.json.decode(body, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _address(said: _Said) -> Address | None:
    try:
        url = urlsplit(said.wss_url or "")
        usable = url.scheme in ("ws", "wss") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or said.wss_url is None:
        return None
    return Address(said.wss_url, _user(said.wss_url), _time(said.expires_at))


def _user(url: str) -> str:
    """The user in the address's token, "" if it cannot be read."""
    token = parse_qs(urlsplit(url).query).get("access_token", [""])[0]
    _, _, rest = token.partition(".")
    claims, _, _ = rest.partition(".")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(claims + "=="), type=_Claims).sub
    except (ValueError, RecursionError):  # which the errors of base64 and msgspec are, too
        return ""


def _time(text: str | None) -> float | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
