"""SSE messages that are not made from events: keep-alives and errors. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.anthropic.errors import message_error
from app.openai.answers import QueuePlace
from app.openai.errors import ApiError
from app.openai.sse import sse_message


class Ping(msgspec.Struct, frozen=True):
    """A keep-alive. Clients ignore its fields."""

    type: Literal["ping"] = "ping"
    queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET


def ping(place: QueuePlace | None) -> bytes:
    """Render a ping; `place` while the job is waiting."""
    return b"event: ping\n" + sse_message(Ping(queue=place or msgspec.UNSET))


def error_event(failure: ApiError) -> bytes:
    """Render an error, which is the last event."""
    return b"event: error\n" + sse_message(message_error(failure))
