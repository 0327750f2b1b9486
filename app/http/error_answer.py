"""Errors as answers, each in the dialect of its path."""

from __future__ import annotations

import msgspec
from sanic import HTTPResponse, Request

from app.anthropic.errors import message_error, message_status
from app.http.allowance import allowance_headers
from app.http.dialect import is_message
from app.http.json_answer import json
from app.openai.errors import ApiError


def error_object(request: Request | None, failure: ApiError) -> msgspec.Struct:
    """Return the body of an error."""
    return message_error(failure) if is_message(request) else failure.object


def error_answer(request: Request | None, failure: ApiError) -> HTTPResponse:
    """Return the response to a request that has failed; it may have failed to be parsed."""
    status = message_status(failure) if is_message(request) else failure.http_status
    headers = failure.headers | allowance_headers(request, failure.allowance)
    return json(error_object(request, failure), status, headers)
