"""Messages of a stream, and what every dialect has to say in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec

from simulator.openai.answer import Answer, Piece
from simulator.openai.asked import Asked
from simulator.openai.errors import ErrorAnswer
from simulator.openai.likeness import Likeness


class Message(NamedTuple):
    """One message: its data, and its event's name in dialects that name them."""

    data: bytes
    name: str = ""

    def encode(self, end: bytes) -> bytes:
        """Return the message as it is sent, with the given line end."""
        event = b"event: " + self.name.encode() + end if self.name else b""
        return event + b"data: " + self.data + end + end


DONE = Message(b"[DONE]")


def to_json(content: object, name: str = "") -> Message:
    """Make a message of a JSON value."""
    return Message(msgspec.json.encode(content), name)


class Dialect(Protocol):
    """One answer in the words of a dialect, as a stream or whole."""

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str) -> None: ...

    def begin(self) -> Iterator[Message]:
        """Yield the messages before the first piece, which say nothing yet."""

    def progress(self, done: int, total: int) -> Iterator[Message]:
        """Yield the sign that a part of the prompt has been read."""

    def piece(self, piece: Piece, *, last: bool) -> Iterator[Message]:
        """Yield the messages of one piece of the answer."""

    def finish(self) -> Iterator[Message]:
        """Yield the messages that say that the answer is complete, and why."""

    def done(self) -> Iterator[Message]:
        """Yield the messages after those: usage, and the end of the stream."""

    def error(self, error: ErrorAnswer) -> Iterator[Message]:
        """Yield an error in the middle of a stream."""

    def whole(self) -> object:
        """Return the answer to a request that is not streamed, as JSON."""
