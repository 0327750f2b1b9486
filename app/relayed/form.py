"""Form of relayed answers in a dialect: what is put around the pieces of a server. Pure.

The pieces themselves are shown as the server wrote them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from app.openai.answers import QueuePlace
from app.openai.errors import ApiError
from app.openai.sse import sse_message
from app.relayed.folding import Fold
from wire.events import Piece


class Head(msgspec.Struct, frozen=True):
    """The gateway's id of an answer, the time, and the model that the client named."""

    id: str
    created: int
    model: str


class Form(ABC):
    """Form of one answer."""

    done = b""
    """The end of a stream that has ended well."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def data(self, piece: Piece) -> bytes:
        """Return the data of the message that shows a piece."""
        return piece.data

    @abstractmethod
    def fold(self) -> Fold:
        """Make an empty fold, for a whole answer."""

    @abstractmethod
    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive; `place` while the job is waiting. Empty for a comment instead."""

    @abstractmethod
    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""

    def error_text(self, text: str) -> bytes:
        """Render an error as text, if the answer has begun."""
        return b""


def named(name: str, event: msgspec.Struct) -> bytes:
    """Render an event with its name."""
    return f"event: {name}\n".encode() + sse_message(event)
