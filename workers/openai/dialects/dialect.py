"""The seam between the dialects and the rules for endings, which are the same for all of them."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec.structs import replace

from wire.events import Piece
from workers.http.sse import ServerSentEvent
from workers.openai import error_object
from workers.openai.error_object import ErrorObject

DONE = b"[DONE]"

FAILING = ("error", "abort")
"""Reasons for an ending that is a failure."""

NULL = msgspec.Raw(b"null")
"""Value of a member that is not there."""

_NOTHING = (b"null", b'""', b"[]", b"{}", b"false")


class Dialect(Protocol):
    """An observer of one streamed answer.

    `model`: the server's own name for the model, "" before it was seen. `said`: something of the
    answer was said. `finished`: the answer is whole, even if nothing else comes. `ended`: the
    server has ended it. `usage`: the message that only tells the usage, in the form of a piece.
    """

    model: str
    said: bool
    finished: bool
    ended: bool
    usage: bytes

    def read(self, message: ServerSentEvent) -> Piece | ErrorObject | None:
        """Observe the next message and return the piece to relay, or the error that it reports.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not in this dialect.
        """
        ...

    def complete(self) -> Piece | None:
        """Return the piece that a finished answer lacks, if its stream broke off before its end."""
        ...


_value_decoder = msgspec.json.Decoder()


def says(value: msgspec.Raw) -> bool:
    """Return True if the value of a member is not empty."""
    return bytes(value) not in _NOTHING


def read_text(value: msgspec.Raw) -> str:
    """Return the value of a member if it is a text, else ""."""
    decoded = _value_decoder.decode(value)
    return decoded if isinstance(decoded, str) else ""


def read_error(data: bytes | msgspec.Raw) -> ErrorObject:
    """Return the error in a message that reports one, or in a member of it."""
    return replace(error_object.read_error(bytes(data)), is_json=True)
