"""One streamed answer: held back until it says something, relayed, and given its one ending. Pure.

    silent  --a message that says something---------> begun
    silent  --the end, or an error------------------> failed, and may be tried again
    begun   --an error, whatever follows------------> failed
    begun   --the server's end, or a finish and the body's end, even a broken one--> complete
    begun   --the body's end without a finish-------> failed: broken off

HTTP 200 is no beginning: servers send it while the request still waits in a queue of their own,
or with an error as the first message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from wire.events import OVERHEAD, Complete, Event, Failed, Piece, Started
from workers.http.sse import ServerSentEvent
from workers.openai.dialects.dialect import Dialect
from workers.openai.error_object import MAX_TEXT, ErrorObject, read_error
from workers.openai.judgement import Refusal, failure, judge
from workers.openai.surrogates import mask_surrogates, unmask_surrogates
from workers.upstream import BROKEN_OFF, NO_ANSWER, UpstreamError

MAX_HELD = 256 * 1024
"""Bytes of messages that are held back at most; an answer with more of them has begun."""

_KEEP_ALIVES = ("ping", "keepalive")
"""Names of events that only keep a connection open, like comments."""

_QUOTED = 100  # characters of a message that is not JSON


class Answer:
    """The state of one answer. `model` is the name that the server was asked for.

    After each call either neither is set, or the answer is over: `ending` is its ending, or
    `failure` the exception to raise. `unfinished`: the server has ended it without a finish.
    """

    def __init__(self, dialect: Dialect, model: str, secrets: Sequence[str] = ()) -> None:
        self.begun = False
        self.unfinished = False
        self.ending: Complete | None = None
        self.failure: Refusal | None = None
        self._dialect = dialect
        self._model = model
        self._secrets = secrets
        self._held: list[Event] = []
        self._held_bytes = 0

    @property
    def finished(self) -> bool:
        """True if the answer is whole, and only its usage and its end may be missing."""
        return self._dialect.finished

    @property
    def over(self) -> bool:
        """True if nothing else is read."""
        return self.ending is not None or self.failure is not None

    def feed(self, messages: Iterable[ServerSentEvent]) -> list[Event] | None:
        """Return the events of the next messages, None if these were no sign of life."""
        events: list[Event] = []
        alive = False
        for message in messages:
            if self.over:
                break
            if message.event in _KEEP_ALIVES or not message.data:
                continue
            alive = True
            piece = self._read(message)
            if piece is not None:
                self._relay(piece, events)
            if self._dialect.ended and not self.over:
                self._end()
        return events if events or (alive and not self.begun) else None

    def end_of_body(self, remainder: bytes = b"") -> list[Event]:
        """End the answer with its body, and return its last events.

        `remainder`: bytes that were no message. A server that answers with JSON instead of a
        stream mostly reports an error.
        """
        if self.over:
            return []
        if self._dialect.finished:
            missing = self._dialect.complete()
            self._end()
            return [] if missing is None else [missing]
        error = read_error(remainder)
        if not self.begun and error.is_json:
            self._fail(error)
        else:
            self._fail_with(BROKEN_OFF)
        return []

    def refuse(self, message: str) -> None:
        """End an answer that this gateway does not read on."""
        self.failure = UpstreamError(Failed("upstream_error", message, "upstream_error"))

    def _read(self, message: ServerSentEvent) -> Piece | None:
        try:
            seen = self._observe(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._fail_with(self._not_json(message.data))
            return None
        if isinstance(seen, ErrorObject):
            self._fail(seen)
            return None
        return seen

    def _observe(self, message: ServerSentEvent) -> Piece | ErrorObject | None:
        try:
            return self._dialect.read(message)
        except msgspec.DecodeError:
            masked = mask_surrogates(message.data)
            if masked is None:
                raise
        seen = self._dialect.read(ServerSentEvent(message.event, masked))
        return Piece(unmask_surrogates(seen.data), seen.name) if isinstance(seen, Piece) else seen

    def _relay(self, piece: Piece, events: list[Event]) -> None:
        if self.begun:
            events.append(piece)
            return
        self._held.append(piece)
        self._held_bytes += OVERHEAD + len(piece.data)
        if self._dialect.said or self._held_bytes > MAX_HELD:
            self.begun = True
            events.append(Started(self._dialect.model or self._model))
            events += self._held
            self._held.clear()

    def _end(self) -> None:
        if not self.begun:
            self._fail_with(NO_ANSWER)
            return
        self.unfinished = not self._dialect.finished
        self.ending = Complete(self._dialect.usage)

    def _fail(self, error: ErrorObject) -> None:
        """Fail by an error in a message: before the answer has begun, by its status."""
        error = error.without(self._secrets)
        if self.begun:
            self.failure = UpstreamError(failure(error))
        else:
            self.failure = judge(error.status or 500, error)

    def _fail_with(self, failed: Failed) -> None:
        self.failure = UpstreamError(failed, passing=not self.begun)

    def _not_json(self, data: bytes) -> Failed:
        text = data[:MAX_TEXT].decode("utf-8", "replace")[:_QUOTED]
        quoted = ErrorObject(f"The upstream sent a message that cannot be read: {text}")
        return Failed("upstream_error", quoted.without(self._secrets).message, "answer_broken_off")
