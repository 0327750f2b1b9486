"""SSE messages of one answer, numbered for a client that may resume it. Pure.

The number is in an `id:` line at the end of a message. Only clients that may resume get one, since
the parsers of many bots stumble over it. The same events always give the same messages with the
same numbers, however they were batched, so everything is rendered again for a client that resumes,
except the messages it has already received. Messages that are not made from events have no number:
keep-alives, errors and `[DONE]`.
"""

from __future__ import annotations

import msgspec

from app.openai.answers import QueuePlace
from app.openai.errors import AnswerLost

DONE = b"data: [DONE]\n\n"

_PREFIX_LENGTH = 8
_MAX_DIGITS = 9

encode = msgspec.json.Encoder().encode


def sse_message(data: msgspec.Struct) -> bytes:
    """Render one SSE message."""
    return b"data: " + encode(data) + b"\n\n"


def message_id_prefix(job: str) -> str:
    """Return the prefix of an answer's message ids: the first random digits of its job's id."""
    return job.replace("_", "-").rpartition("-")[2][:_PREFIX_LENGTH]


def resume_after(last_event_id: str | None, job: str) -> int:
    """Return the number of the last message that the client received; 0 without a `Last-Event-ID`.

    Raises:
        AnswerLost: the header does not name a message of this answer.
    """
    if not last_event_id:
        return 0
    tag, _, number = last_event_id.rpartition("-")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS
    if tag != message_id_prefix(job) or not is_number:
        raise AnswerLost
    return int(number)


class Messages:
    """Messages of one answer. If `numbered`, they have ids, and those up to `after` are empty."""

    def __init__(self, job: str, *, numbered: bool, after: int = 0) -> None:
        self.number = 0
        self._numbered = numbered
        self._after = after
        self._id_prefix = f"\nid: {message_id_prefix(job)}-".encode()

    def next(self, data: msgspec.Struct, event: bytes = b"") -> bytes:
        """Render the next message; empty if the client has already received it."""
        return self.next_encoded(encode(data), event)

    def next_encoded(self, data: bytes, event: bytes = b"") -> bytes:
        """Render the next message from its data, which may have several lines."""
        self.number += 1
        if self.number <= self._after:
            return b""
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        if not self._numbered:
            return b"%bdata: %b\n\n" % (event, data)
        return b"%bdata: %b%b%d\n\n" % (event, data, self._id_prefix, self.number)

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""
        text = f"queued position={place.position} eta={place.eta}" if place else "working"
        # After an `id:` line, some official clients take a comment and an empty line for a message
        # without data, and fail on it. A single line is a comment as well.
        end = "\n" if self._numbered and self.number else "\n\n"
        return f": {text}{end}".encode()
