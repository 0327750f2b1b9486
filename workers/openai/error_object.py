"""Errors of OpenAI-compatible servers, read from any of the shapes they come in. Pure.

`{"error": {...}}` is OpenAI's, with a `code` that is a text, a number or missing; others are
`{"error": "text"}` (mlx-lm, vLLM), `{"object": "error", "message"}` (SGLang), `{"detail": ...}`
with a text, an object or a list (FastAPI, KoboldCpp), and plain text or HTML (proxies).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from workers.secret_text import NOT_SHOWN, shows

MAX_MESSAGE = 4000
"""Characters of a server's message that are passed on."""

MAX_TEXT = 500
"""Characters that are passed on of a text that is not an error object."""

_MAX_NAME = 200  # of a type, a parameter or a code

MAX_ERROR = 64 * 1024
"""Bytes of an error that are read."""

TOO_LARGE = "The upstream sent more than this gateway reads: its answer is too large."

STATUSES = {
    "authentication_error": 401,
    "permission_error": 403,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "overloaded_error": 529,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "request_too_large": 413,
}
"""Statuses behind the codes and types of errors that come without one, inside a stream."""


class ErrorObject(msgspec.Struct, frozen=True):
    """An error as its server described it. `kind` is its type; `message` is "" if it has none.

    `status` is its code, if that is an HTTP status, else 0. `is_json`: it was an object. Its texts
    are as long as the server wrote them, and may contain secrets, until `without` was called.
    """

    message: str = ""
    kind: str | None = None
    param: str | None = None
    code: str | None = None
    status: int = 0
    is_json: bool = False

    def without(self, secrets: Sequence[str]) -> ErrorObject:
        """Cut its texts to what is passed on; replace it if any of them contains a secret.

        They are searched before they are cut: a secret across the cut would be passed on in part.
        """
        texts = (self.message, self.kind, self.param, self.code)
        if any(shows(text, secret) for text in texts if text for secret in secrets):
            return ErrorObject(NOT_SHOWN, status=self.status, is_json=self.is_json)
        return replace(
            self,
            message=self.message[: MAX_MESSAGE if self.is_json else MAX_TEXT],
            kind=_cut(self.kind),
            param=_cut(self.param),
            code=_cut(self.code),
        )


def read_error(body: bytes) -> ErrorObject:
    """Read the body of an error, which may be truncated, empty, or of any type."""
    try:
        value: object = msgspec.json.decode(body[:MAX_ERROR])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _of_text(body[:MAX_ERROR].decode("utf-8", "replace"))
    return error_of(value)


def error_of(value: object) -> ErrorObject:
    """Read an error from a decoded JSON value."""
    match value:
        case {"error": dict() as inner} if inner:
            return _of_object(inner)
        case {"error": str(text)} if text:
            return ErrorObject(text, is_json=True)
        case dict() if isinstance(value.get("message"), str):
            return _of_object(value)
        case {"detail": str(text)}:
            return ErrorObject(text, is_json=True)
        case {"detail": dict() as inner}:
            return _of_object(inner)
        case {"detail": [dict() as first, *_]}:
            return _of_object(first)
        case str():
            return _of_text(value)
        case _:
            return ErrorObject(is_json=isinstance(value, dict))


def _of_object(fields: dict[str, object]) -> ErrorObject:
    message, code = fields.get("message", fields.get("msg")), fields.get("code")
    text = message if isinstance(message, str) else ""
    if isinstance(loc := fields.get("loc"), list):
        text = f"{'.'.join(map(str, loc[:20]))}: {text}"
    kind = _name(fields.get("type"))
    return ErrorObject(
        text,
        kind,
        _name(fields.get("param")),
        _name(code),
        _status(code) or STATUSES.get(str(code)) or STATUSES.get(str(kind), 0),
        is_json=True,
    )


def _of_text(text: str) -> ErrorObject:
    text = text.strip()
    if text.startswith(("<", "{", "[")):
        return ErrorObject()  # a web page or damaged JSON, which may quote the request
    return ErrorObject(text)


def _name(value: object) -> str | None:
    """A short text, of which a code may also be a number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _cut(name: str | None) -> str | None:
    return name and name[:_MAX_NAME]


def _status(code: object) -> int:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else 0
