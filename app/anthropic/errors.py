"""Errors in Anthropic's form: as the body of a response, or as an event of a stream."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.openai.errors import ApiError, JobFailed, LineUnavailable

OVERLOADED = 529
"""Anthropic's own status, for a service that has no room for now."""

_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}


_TOO_LONG = "context_length_exceeded"


class MessageErrorBody(msgspec.Struct, frozen=True):
    """The `error` object."""

    type: str
    message: str


class MessageError(msgspec.Struct, frozen=True, kw_only=True):
    """Error sent to a client instead of an answer, or in the middle of one."""

    type: Literal["error"] = "error"
    error: MessageErrorBody


def message_status(failure: ApiError) -> int:
    """Return the HTTP status of an error: our 503 is another number here."""
    return status_here(failure.http_status)


def status_here(status: int) -> int:
    """Return the HTTP status of an error that has this one in OpenAI's dialects."""
    return OVERLOADED if status == LineUnavailable.status else status


def message_error(failure: ApiError) -> MessageError:
    """Return an error in this form."""
    relayed = failure.relayed_type if isinstance(failure, JobFailed) else None
    kind = relayed or _of_status(message_status(failure))
    message = failure.object.error.message if relayed else _message(failure)
    return MessageError(error=MessageErrorBody(kind, message))


def _message(failure: ApiError) -> str:
    """Return the message of an error, with the field, for which this form has no place."""
    message, param = failure.object.error.message, failure.param
    if failure.code == _TOO_LONG:
        return f"prompt is too long: {message}"  # the words for which clients look
    return message if param is None or param in message else f"{param}: {message}"


def _of_status(status: int) -> str:
    return _OF_STATUS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
