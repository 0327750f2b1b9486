"""Errors as answers, each in the dialect of its path."""

from __future__ import annotations

import re

import msgspec
from sanic import HTTPResponse, Request

from app.anthropic.errors import message_error, message_status
from app.http.json_answer import json
from app.openai.errors import ApiError

_MESSAGES = re.compile(r"/v1/messages(/|$)")
"""In a path of Anthropic's dialect, under any prefix."""


def error_object(request: Request | None, failure: ApiError) -> msgspec.Struct:
    """Return the body of an error."""
    return message_error(failure) if _is_message(request) else failure.object


def error_answer(request: Request | None, failure: ApiError) -> HTTPResponse:
    """Return the response to a request that has failed; it may have failed to be parsed."""
    status = message_status(failure) if _is_message(request) else failure.http_status
    return json(error_object(request, failure), status, failure.headers)


def _is_message(request: Request | None) -> bool:
    return request is not None and is_message_path(request.path)


def is_message_path(path: str) -> bool:
    """Return True for a path of Anthropic's dialect."""
    return _MESSAGES.search(path) is not None
