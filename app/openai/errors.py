"""Everything that can be wrong with a request, as OpenAI's error object and its HTTP status.

    ApiError
     |- BadRequest            400  the client's
     |   `- UnsupportedParameter
     |- ImageGenerateFail     400  the upstream drew nothing
     |- Unauthorized          401
     |- ModelNotFound         404
     |- NotFound              404
     |- MethodNotAllowed      405
     |- RequestTimeout        408  the client's, or its network's
     |- AnswerLost            409
     |- BodyTooLarge          413
     |- IdempotencyMismatch   422
     |- HeadersTooLarge       431
     |- LineFull              429  ours: too many wait
     |   |- WaitTooLong
     |   |- Crowded                too many large ones arrive at once
     |   `- ModelCapped            the upstream's
     |- LineUnavailable       503  ours: Redis is away, or this front end stops
     |   |- NoWorker
     |   `- CircuitOpen            the upstream's
     |- WaitedTooLong         504
     |- JobFailed             what `wire.events.Failed` says
     `- InternalError         500  a bug of ours

The docstring of a class is its default message.
"""

from __future__ import annotations

import math
import random
from typing import ClassVar, get_args

import msgspec

from wire.events import Failed, Fault
from wire.line.admission import RefusalReason, Refused


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's `error` object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorObject(msgspec.Struct, frozen=True):
    """What a client gets instead of an answer, as a body or as an SSE message."""

    error: ErrorBody


class ApiError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "invalid_request_error"
    code: str | None = None
    retry_after: float | None = None
    retry: bool = True
    """Whether an SDK may try again by itself where the status alone would make it."""
    job: str = ""
    """The job that ended so, by which workers' logs name it."""

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)
        self.param = param

    @property
    def http_status(self) -> int:
        """The status of the answer."""
        return self.status

    @property
    def object(self) -> ErrorObject:
        """What the client is told."""
        return ErrorObject(ErrorBody(str(self), self.error_type, self.param, self.code))

    @property
    def error_type(self) -> str:
        """OpenAI's word for the kind of error."""
        return self.type

    @property
    def headers(self) -> dict[str, str]:
        """What tells a client when, and whether, to come again."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if not self.retry:
            headers["x-should-retry"] = "false"
        return headers


class BadRequest(ApiError):
    """The request could not be understood."""

    status = 400


class UnsupportedParameter(BadRequest):
    """The upstream cannot do what this parameter asks for."""

    code = "unsupported_parameter"


class ImageGenerateFail(ApiError):
    """No image was drawn."""

    status = 400
    code = "image_generate_fail"


class Unauthorized(ApiError):
    """No bearer was given. Send your upstream token as `Authorization: Bearer <token>`."""

    status = 401
    code = "invalid_api_key"


class ModelNotFound(ApiError):
    """The model does not exist here. GET /v1/models lists those that do."""

    status = 404
    code = "model_not_found"


class NotFound(ApiError):
    """There is nothing at this address. Does your base URL end with `/v1`, or `/<prefix>/v1`?"""

    status = 404
    code = "not_found"


class MethodNotAllowed(ApiError):
    """This address does not take this method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class AnswerLost(ApiError):
    """What follows the message in Last-Event-ID cannot be had. Ask again without that header."""

    status = 409
    code = "answer_lost"
    retry = False


class IdempotencyMismatch(ApiError):
    """This Idempotency-Key has been used for another request. Use a new key for each."""

    status = 422
    code = "idempotency_key_reused"
    retry = False


class BodyTooLarge(ApiError):
    """The request body is larger than this gateway takes."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(ApiError):
    """The request headers are larger than this gateway takes."""

    status = 431
    code = "headers_too_large"


class LineFull(ApiError):
    """Too many requests wait. Come back when `Retry-After` says."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class WaitTooLong(LineFull):
    """The wait would be longer than this gateway, or X-Max-Wait, allows."""

    code = "wait_too_long"


class Crowded(LineFull):
    """Too many large requests arrive at once. Come back when `Retry-After` says."""

    code = "too_many_large_requests"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = random.uniform(*SOON)  # noqa: S311 - so that not all return at once


SOON = 5.0, 15.0
"""Seconds after which the large requests of this moment will have been taken in."""


class ModelCapped(LineFull):
    """This account has used up its share of this model upstream, for now."""

    code = "model_cap_exceeded"


class LineUnavailable(ApiError):
    """The waiting line cannot be reached at the moment. Try again in a few seconds."""

    status = 503
    type = "server_error"
    code = "line_unavailable"
    retry_after = 5.0


class NoWorker(LineUnavailable):
    """No worker is alive that could serve this request. Try again in a few seconds."""

    code = "no_worker"


class CircuitOpen(LineUnavailable):
    """The upstream fails for everyone at the moment and is left alone until `Retry-After`."""

    code = "upstream_unavailable"


class WaitedTooLong(ApiError):
    """The request waited longer than this gateway lets any request wait."""

    status = 504
    type = "timeout"
    code = "waited_too_long"
    retry = False


class InternalError(ApiError):
    """Something went wrong inside the gateway. Its log tells more under this request's id."""

    status = 500
    type = "server_error"
    code = "internal_error"


_OF_FAULT: dict[Fault, tuple[int, str, str]] = {
    "unauthorized": (401, "invalid_request_error", "invalid_api_key"),
    "forbidden": (403, "permission_error", "upstream_forbidden"),
    "too_long": (413, "invalid_request_error", "context_length_exceeded"),
    "bad_file": (400, "invalid_request_error", "file_refused"),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "upstream_error": (502, "upstream_error", "upstream_error"),
    "upstream_down": (502, "upstream_error", "upstream_unreachable"),
    "upstream_timeout": (504, "timeout", "upstream_timeout"),
    "cancelled": (409, "invalid_request_error", "cancelled"),
    "waited_too_long": (504, "timeout", "waited_too_long"),
    "gateway_error": (500, "server_error", "internal_error"),
    "let_go": (503, "server_error", "line_unavailable"),
}
"""Status, OpenAI type and default code of each fault."""

assert set(_OF_FAULT) == set(get_args(Fault))  # noqa: S101 - a new fault must get its line here

_OF_REFUSAL: dict[RefusalReason, tuple[type[ApiError], str | None]] = {
    "queue_full": (LineFull, None),
    "key_full": (
        LineFull,
        "Too many requests of this key wait. Come back when `Retry-After` says.",
    ),
    "too_many_bytes": (LineFull, "The waiting requests are too large together. Come back later."),
    "wait_too_long": (WaitTooLong, None),
    "model_capped": (ModelCapped, None),
    "no_worker": (NoWorker, None),
    "circuit_open": (CircuitOpen, None),
}

assert set(_OF_REFUSAL) == set(get_args(RefusalReason))  # noqa: S101 - each has its line here


def refused(refusal: Refused) -> ApiError:
    """What a client is told that may not come into the line."""
    kind, message = _OF_REFUSAL[refusal.reason]
    failure = kind(message)
    failure.retry_after = refusal.retry_after
    failure.retry = refusal.retry_after <= LONGEST_RETRY
    return failure


LONGEST_RETRY = 60.0
"""Seconds: official SDKs ignore a longer `Retry-After` and come again at once, in vain."""


class JobFailed(ApiError):
    """The job ended without a whole answer."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        status, kind, code = _OF_FAULT[failed.fault]
        self._status, self._type = status, kind
        self.code = failed.code or code
        self.retry_after = failed.retry_after
        # Somebody meant it to end; and SDKs would take a longer `Retry-After` for a short one.
        meant = failed.fault in ("cancelled", "waited_too_long")
        self.retry = not meant and (failed.retry_after or 0) <= LONGEST_RETRY

    @property
    def http_status(self) -> int:
        """The status that the fault makes."""
        return self._status

    @property
    def error_type(self) -> str:
        """The type that the fault makes."""
        return self._type
