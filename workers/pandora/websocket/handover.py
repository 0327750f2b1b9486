"""An answer that its POST only announces: the WebSocket's address, and the answer's ids in it.

The address names its user in its token (a JWT). One bearer may have several users, as a pool does,
and each of them has a socket of its own. Pure.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import msgspec

from workers.pandora.json_decoding import decode_json


class Address(msgspec.Struct, frozen=True):
    """Address of a user's WebSocket. `expires_at` is a POSIX time, None if unknown.

    Anybody with the `url` can read the user's answers, so it is never shown.
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

    @property
    def id(self) -> str:
        """The id by which its frames are found."""
        return self.response_id or self.conversation_id


class _Announcement(msgspec.Struct, frozen=True):
    wss_url: str | None = None
    expires_at: str | None = None
    response_id: str | None = None
    conversation_id: str | None = None
    websocket_request_id: str | None = None


class _Claims(msgspec.Struct, frozen=True):
    sub: str = ""


def read_address(body: bytes) -> Address | None:
    """The address in the response of register-websocket; None if it is not usable."""
    announcement = decode_json(body, _Announcement)
    return None if announcement is None else _address(announcement)


def read_handover(body: bytes) -> Handover | None:
    """The handover in the JSON body of a question's response with 200; None if it has none."""
    said = decode_json(body, _Announcement)
    if said is None or not (said.response_id or (said.wss_url and said.conversation_id)):
        return None
    return Handover(
        said.response_id or "",
        said.conversation_id or "",
        said.websocket_request_id,
        _address(said),
    )


def _address(said: _Announcement) -> Address | None:
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
    _, _, remainder = token.partition(".")
    claims, _, _ = remainder.partition(".")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(claims + "=="), type=_Claims).sub
    except (ValueError, RecursionError):  # of base64 and of msgspec, too
        return ""


def _time(text: str | None) -> float | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
