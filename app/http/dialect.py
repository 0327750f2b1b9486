"""The dialect of a request, by its path."""

from __future__ import annotations

import re

from sanic import Request

_MESSAGES = re.compile(r"/v1/messages(/|$)")
"""In a path of Anthropic's dialect, under any prefix."""


def is_message(request: Request | None) -> bool:
    """Return True if the dialect is Anthropic's; a request may have failed to be parsed."""
    return request is not None and is_message_path(request.path)


def is_message_path(path: str) -> bool:
    """Return True for a path of Anthropic's dialect."""
    return _MESSAGES.search(path) is not None
