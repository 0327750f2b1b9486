"""The dialect of a request, by its path. Models are in both, and the client's headers decide."""

from __future__ import annotations

import re

from sanic import Request

_MESSAGES = re.compile(r"/v1/messages(/|$)")
"""In a path of Anthropic's dialect, under any prefix."""

_MODELS = re.compile(r"/v1/models(/|$)")
VERSION_HEADER = "anthropic-version"


def is_message(request: Request | None) -> bool:
    """Return True if the dialect is Anthropic's; a request may have failed to be parsed."""
    if request is None:
        return False
    if is_models_path(request.path):
        sent = request.headers
        return VERSION_HEADER in sent or ("x-api-key" in sent and "authorization" not in sent)
    return is_message_path(request.path)


def is_message_path(path: str) -> bool:
    """Return True for a path of Anthropic's dialect."""
    return _MESSAGES.search(path) is not None


def is_models_path(path: str) -> bool:
    """Return True for a path of the models."""
    return _MODELS.search(path) is not None
