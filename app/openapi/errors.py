"""Errors of each operation, as answers by their status. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from app.anthropic.errors import MessageError, status_here
from app.http.dialect import is_message_path, is_models_path
from app.openai import errors
from app.openai.errors import FAULT_STATUSES, ApiError, ErrorObject
from app.openapi.headers import (
    REQUEST_ID,
    RETRY_AFTER,
    SHOULD_RETRY,
    Header,
    request_limits,
)
from app.openapi.schemas import Schema, Schemas, any_of

Kinds = tuple[type[ApiError], ...]

ANYWHERE: Kinds = (
    errors.BadRequest,
    errors.TlsToPlainPort,
    errors.RequestTimeout,
    errors.BodyTooLarge,
    errors.HeadersTooLarge,
    errors.InternalError,
    errors.LineUnavailable,
    errors.TooManyConnections,
)
OF_A_KEY: Kinds = (errors.Unauthorized, errors.TooManyWrongKeys)
OF_A_BODY: Kinds = (
    *OF_A_KEY,
    errors.UnsupportedParameter,
    errors.UnsupportedEncoding,
    errors.ModelNotFound,
    errors.TooManyLargeRequests,
    errors.KeyRevoked,
    errors.RateLimited,
    errors.QuotaSpent,
)
IN_LINE: Kinds = (
    *OF_A_BODY,
    errors.KeyRefused,
    errors.AnswerLost,
    errors.IdempotencyMismatch,
    errors.LineFull,
    errors.KeyFull,
    errors.WaitTooLong,
    errors.ModelCapped,
    errors.NoWorker,
    errors.CircuitOpen,
    errors.IntakePaused,
    errors.NoAccount,
    errors.JobFailed,
)
OTHERWISE: Kinds = (errors.NotFound, errors.MethodNotAllowed)
"""Errors for a path or method that is not served, and so of no operation."""

_JOB = "The job ended without a complete answer"
_RELAYED = {
    "4XX": "The model server refused the request. Status and error are its own.",
    "501": "The model server does not support the request. The error is its own.",
}


def error_answers(kinds: Kinds, schemas: Schemas, path: str, *, relayed: bool) -> dict[str, Schema]:
    """Return the answers to failed requests of a path by their status, in each of its dialects.

    `relayed`: the errors of a model server are among them.
    """
    forms = _forms(path)
    causes: dict[str, list[str]] = defaultdict(list)
    for status, cause in _causes((*ANYWHERE, *kinds)):
        for own in {status_here(status) if form is MessageError else status for form in forms}:
            causes[str(own)].append(cause)
    texts = {status: "\n".join(given) for status, given in sorted(causes.items())}
    body = any_of([schemas.answer(form) for form in forms])
    limits = request_limits(path) if errors.RateLimited in kinds else ()
    return {
        status: error_answer(text, body, limits if status == str(errors.RateLimited.status) else ())
        for status, text in (texts | (_RELAYED if relayed else {})).items()
    }


def _forms(path: str) -> list[type]:
    """Return the types of the errors of a path."""
    if is_models_path(path):
        return [ErrorObject, MessageError]
    return [MessageError if is_message_path(path) else ErrorObject]


def error_answer(text: str, body: Schema, headers: tuple[Header, ...] = ()) -> Schema:
    """Return the description of an answer that is an error."""
    return {
        "description": text,
        "headers": header_references((REQUEST_ID, RETRY_AFTER, SHOULD_RETRY, *headers)),
        "content": {"application/json": {"schema": body}},
    }


def header_references(headers: Iterable[Header]) -> Schema:
    """Return references to headers among the components."""
    return {header.name: {"$ref": f"#/components/headers/{header.id}"} for header in headers}


def _causes(kinds: Iterable[type[ApiError]]) -> Iterable[tuple[int, str]]:
    for kind in kinds:
        if kind is errors.JobFailed:
            for status, code in sorted(FAULT_STATUSES):
                yield status, f"`{code}`: {_JOB}."
        else:
            code = f"`{kind.code}`: " if kind.code else ""
            yield kind.status, f"{code}{kind.__doc__}"
