"""Tokens of a request that would be relayed, counted here: a server would take a slot for it.

The number is an estimate: the server's model may have another encoding, and its template adds more.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from app.relayed.requests import RelayedCount
from wire.jobs import Message
from wire.tokens.prompt import Prompt, summarize_prompt

_DEPTH = 24
"""Levels of JSON that are looked into."""

_UNCOUNTED = frozenset(("type", "role", "id", "tool_use_id", "source", "signature"))
"""Members without text for the model. Pictures and files are not counted."""


def relayed_prompt(request: RelayedCount) -> Prompt:
    """Return the texts of a request: those of `system`, `messages` and `tools`."""
    messages: list[object] = msgspec.json.decode(request.messages)
    given = [msgspec.json.decode(request.system), *messages]
    counted = [Message("user", list(_texts(message, _DEPTH))) for message in given if message]
    tools = [Message("system", bytes(request.tools).decode())] if request.has_tools else []
    return summarize_prompt([*counted, *tools])


def _texts(value: object, depth: int) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() if depth:
            for item in value:
                yield from _texts(item, depth - 1)
        case dict() if depth:
            for key, item in value.items():
                if key not in _UNCOUNTED:
                    yield from _texts(item, depth - 1)
