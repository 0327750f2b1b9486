"""Every error that a client can receive, as OpenAI's error object and its HTTP status.

    ApiError
     |- BadRequest            400  the client's fault
     |   `- UnsupportedParameter
     |- ImageGenerateFail     400  the upstream drew nothing
     |- Unauthorized          401
     |   |- KeyRefused            the upstream refused this key before
     |   `- KeyRevoked            the gateway key is not valid any more
     |- ModelNotFound         404
     |- NotFound              404
     |- ItemNotFound          404  an item that a request refers to is not stored
     |- MethodNotAllowed      405
     |- RequestTimeout        408  the fault of the client or its network
     |- AnswerLost            409
     |- BodyTooLarge          413
     |- UnsupportedEncoding   415
     |- IdempotencyMismatch   422
     |- HeadersTooLarge       431
     |- LineFull              429  our limit: too many requests are waiting
     |   |- WaitTooLong
     |   |- TooManyLargeRequests   too many large ones arrive at once
     |   |- KeyFull                too many of this key
     |   `- ModelCapped            the upstream's limit
     |- RateLimited           429  the limit of a gateway key
     |   `- TooManyWrongKeys       or of an address
     |- QuotaSpent            429  the budget of a gateway key
     |- LineUnavailable       503  our fault: Redis is unreachable, or this front end is stopping
     |   |- TooManyConnections
     |   |- NoWorker
     |   |- CircuitOpen            the upstream's fault
     |   `- IntakePaused           an operator's wish
     |- JobFailed                  status and type by the fault in `wire.events.Failed`
     `- InternalError         500  our bug

The docstring of a class is its default message.
"""

from __future__ import annotations

import math
import random
from typing import ClassVar, Literal, get_args

import msgspec

from wire.events import Failed, Fault
from wire.line.admission import Allowance, Clash, RefusalReason, Refused
from wire.stream.endings import BY_OPERATOR, REFUSED_US

Late = Literal["", "key", "address"]


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's `error` object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorObject(msgspec.Struct, frozen=True):
    """Error sent to a client instead of an answer, as a body or as an SSE message."""

    error: ErrorBody


class ApiError(Exception):
    """The request failed."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "invalid_request_error"
    code: str | None = None
    retry_after: float | None = None
    retry: bool = True
    """False to keep an SDK from retrying by itself where the status alone would make it."""
    allowance: Allowance | None = None
    """Requests that the client's key may still make, if that is limited."""
    late: ClassVar[Late] = ""
    """The answer is delayed for clients that keep coming with the same key, or from the same
    address."""
    job: str = ""
    """Id of the failed job, as in the logs of workers."""

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)
        self.param = param

    is_cancellation: bool = False
    """True if the job was cancelled, not by this client."""

    @property
    def http_status(self) -> int:
        """HTTP status of the answer."""
        return self.status

    @property
    def object(self) -> ErrorObject:
        """Body of the answer."""
        # A quoted header may hold bytes that are no text.
        message = self._message.encode(errors="backslashreplace").decode()
        return ErrorObject(ErrorBody(message, self.error_type, self.param, self.code))

    @property
    def _message(self) -> str:
        """The message, with the time to retry for clients that show nothing else."""
        if self.retry_after is None:
            return str(self)
        seconds = _whole_seconds(self.retry_after)
        period = "." if str(self)[-1:].isalnum() else ""
        return f"{self}{period} Retry in {seconds} second{'s' * (seconds > 1)}."

    @property
    def error_type(self) -> str:
        """OpenAI's `type` of the error."""
        return self.type

    @property
    def headers(self) -> dict[str, str]:
        """Headers that tell the client when to retry, or not to."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(_whole_seconds(self.retry_after))
        if not self.retry:
            headers["x-should-retry"] = "false"
        return headers


def _whole_seconds(time: float) -> int:
    return max(1, math.ceil(time))


class BadRequest(ApiError):
    """The request is invalid."""

    status = 400


class UnsupportedParameter(BadRequest):
    """This parameter is not supported."""

    code = "unsupported_parameter"


class TlsToPlainPort(BadRequest):
    """This port speaks plain HTTP. Use a base URL that begins with http:// instead of https://."""


class ImageGenerateFail(ApiError):
    """No image was generated."""

    status = 400
    code = "image_generate_fail"


class Unauthorized(ApiError):
    """Missing bearer. Send your upstream token as `Authorization: Bearer <token>`."""

    status = 401
    code = "invalid_api_key"
    late: ClassVar[Late] = "address"


class KeyRefused(Unauthorized):
    """Incorrect API key. The upstream refused this key less than a minute ago."""

    late: ClassVar[Late] = "key"


class KeyRevoked(Unauthorized):
    """Incorrect API key. It was revoked or has expired. Ask the operator for another one."""


class ModelNotFound(ApiError):
    """The model does not exist. See GET /v1/models for the available models."""

    status = 404
    code = "model_not_found"


class NotFound(ApiError):
    """This URL is not served."""

    status = 404
    code = "not_found"


class ItemNotFound(ApiError):
    """This item was not found."""

    status = 404


class MethodNotAllowed(ApiError):
    """This method is not allowed for this URL."""

    status = 405
    code = "method_not_allowed"
    allow = ""

    @property
    def headers(self) -> dict[str, str]:
        """Headers that name the methods to use."""
        return super().headers | {"allow": self.allow}


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class AnswerLost(ApiError):
    """Events after this Last-Event-ID are no longer available. Retry without the header."""

    status = 409
    code = "answer_lost"
    retry = False


class IdempotencyMismatch(ApiError):
    """This Idempotency-Key was already used for a different request. Use a new key."""

    status = 422
    code = "idempotency_key_reused"
    retry = False


class BodyTooLarge(ApiError):
    """The request body is too large for this gateway."""

    status = 413
    code = "request_too_large"


class UnsupportedEncoding(ApiError):
    """This Content-Encoding is not supported. Send gzip, deflate, br, zstd or no encoding."""

    status = 415
    code = "unsupported_encoding"


class HeadersTooLarge(ApiError):
    """The request headers are too large for this gateway."""

    status = 431
    code = "headers_too_large"


class LineFull(ApiError):
    """Too many requests are waiting."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class KeyFull(LineFull):
    """Too many requests of this key are waiting."""

    late: ClassVar[Late] = "key"


class WaitTooLong(LineFull):
    """The expected wait is longer than this gateway, this key or X-Max-Wait allows."""

    code = "wait_too_long"


class TooManyLargeRequests(LineFull):
    """Too many large requests at once."""

    code = "too_many_large_requests"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = random.uniform(*LARGE_RETRY)  # noqa: S311 - spreads the retries


LARGE_RETRY = 5.0, 15.0
"""Range of the retry time, in seconds: by then the current large requests will be enqueued."""


class ModelCapped(LineFull):
    """This account has reached its upstream limit for this model."""

    code = "model_cap_exceeded"


class RateLimited(ApiError):
    """Rate limit reached for requests per minute of this key."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    late: ClassVar[Late] = "key"


class TooManyWrongKeys(RateLimited):
    """Too many requests with a wrong key, or without one, from this address. Check the API key."""

    late: ClassVar[Late] = "address"


class QuotaSpent(ApiError):
    """You exceeded the current quota of this key. Ask the operator of this gateway for more."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    late: ClassVar[Late] = "key"


class LineUnavailable(ApiError):
    """The waiting line is unreachable."""

    status = 503
    type = "server_error"
    code = "line_unavailable"
    retry_after = 5.0


class TooManyConnections(LineUnavailable):
    """Too many connections are open. Reuse a connection for further requests."""

    code = "too_many_connections"


class NoWorker(LineUnavailable):
    """No worker is available to serve this request."""

    code = "no_worker"


class CircuitOpen(LineUnavailable):
    """The upstream is failing; new requests are paused."""

    code = "upstream_unavailable"


class IntakePaused(LineUnavailable):
    """The operator of this gateway has paused new requests."""

    code = "intake_paused"


class NoAccount(LineUnavailable):
    """The upstream accounts of this gateway cannot be used now; new requests are paused."""

    code = "no_account"


class InternalError(ApiError):
    """The gateway had an internal error. Its log has details under the id in `x-request-id`."""

    status = 500
    type = "server_error"
    code = "internal_error"


_OF_FAULT: dict[Fault, tuple[int, str, str]] = {
    "unauthorized": (401, "invalid_request_error", "invalid_api_key"),
    "key_revoked": (401, "invalid_request_error", "invalid_api_key"),
    "forbidden": (403, "permission_error", "upstream_forbidden"),
    "too_long": (400, "invalid_request_error", "context_length_exceeded"),
    "bad_file": (400, "invalid_request_error", "file_refused"),
    "bad_request": (400, "invalid_request_error", "bad_request"),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "upstream_error": (502, "upstream_error", "upstream_error"),
    "upstream_down": (502, "upstream_error", "upstream_unreachable"),
    "upstream_timeout": (504, "timeout", "upstream_timeout"),
    "cancelled": (409, "invalid_request_error", "cancelled"),
    "waited_too_long": (504, "timeout", "waited_too_long"),
    "gateway_error": (500, "server_error", "internal_error"),
    "reply_abandoned": (503, "server_error", "line_unavailable"),
}
"""Status, OpenAI type and default code of each fault."""

assert set(_OF_FAULT) == set(get_args(Fault))  # noqa: S101 - a new fault needs an entry

FAULT_STATUSES = frozenset(
    {
        *((status, code) for status, _, code in _OF_FAULT.values()),
        (_OF_FAULT["cancelled"][0], BY_OPERATOR),
    }
)
"""Status and default code of all faults, and of a cancellation by an operator."""

_OF_REFUSAL: dict[RefusalReason, tuple[type[ApiError], str | None]] = {
    "key_revoked": (KeyRevoked, None),
    "rate_limited": (RateLimited, None),
    "budget_spent": (QuotaSpent, None),
    "key_refused": (KeyRefused, None),
    "queue_full": (LineFull, None),
    "key_full": (KeyFull, None),
    "too_many_bytes": (
        LineFull,
        "The waiting requests are too large in total.",
    ),
    "wait_too_long": (WaitTooLong, None),
    "model_capped": (ModelCapped, None),
    "no_account": (NoAccount, None),
    "no_worker": (NoWorker, None),
    "circuit_open": (CircuitOpen, None),
    "paused": (IntakePaused, None),
}

assert set(_OF_REFUSAL) == set(get_args(RefusalReason))  # noqa: S101 - a new reason needs an entry


def refusal_error(refusal: Refused) -> ApiError:
    """Map a refused admission to the error that the client gets."""
    kind, message = _OF_REFUSAL[refusal.reason]
    failure = kind(message)
    failure.retry_after = refusal.retry_after or None
    failure.retry = refusal.kept and refusal.retry_after <= LONGEST_RETRY
    failure.allowance = refusal.allowance
    return failure


def clash_error(clash: Clash) -> ApiError:
    """Map a clash of idempotency keys to the error that the client gets."""
    return IdempotencyMismatch() if clash.why == "mismatch" else AnswerLost()


_TOO_LONG = (
    "This model's maximum context length is exceeded. Please reduce the length of the messages."
)

LONGEST_RETRY = 60.0
"""Seconds. Official SDKs ignore a longer `Retry-After` and retry at once."""


class JobFailed(ApiError):
    """The job ended without a complete answer."""

    def __init__(self, failed: Failed) -> None:
        status, kind, code = _OF_FAULT[failed.fault]
        if failed.fault == "too_long":
            # Clients that shorten their request and retry look for OpenAI's own code and sentence.
            super().__init__(
                f"{_TOO_LONG} The upstream answered: {failed.message}", param="messages"
            )
            self.code = code
        else:
            super().__init__(failed.message, param=failed.param)
            self.code = failed.code or (code if not failed.status else None)
        self._status, self._type = failed.status or status, failed.kind or kind
        self.relayed_type = failed.kind
        """The type that the upstream gave, if the error is its own."""
        self.retry_after = failed.retry_after
        self.is_cancellation = failed.fault == "cancelled"
        # To retry is useless for now; and SDKs take a longer `Retry-After` for a short one.
        useless = failed.fault in ("cancelled", "waited_too_long") or failed.code == REFUSED_US
        self.retry = not useless and (failed.retry_after or 0) <= LONGEST_RETRY

    @property
    def http_status(self) -> int:
        """HTTP status of the fault."""
        return self._status

    @property
    def error_type(self) -> str:
        """OpenAI's `type` of the fault."""
        return self._type
