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

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from wire.events import OVERHEAD, Complete, Event, Failed, Piece, Started
from workers.http.sse import EventParser, EventTooLargeError, ServerSentEvent
from workers.openai import error_object
from workers.openai.dialects.dialect import Dialect
from workers.openai.error_object import ErrorObject, read_error
from workers.openai.judgement import Refusal, failure, judge
from workers.openai.surrogates import mask_surrogates, unmask_surrogates
from workers.secret_text import NOT_SHOWN
from workers.upstream import BROKEN_OFF, NO_ANSWER, UpstreamError

MAX_HELD = 256 * 1024
"""Bytes of messages that are held back at most; an answer with more of them has begun."""

TOO_LARGE = Failed("upstream_error", error_object.TOO_LARGE, "upstream_error")

_KEEP_ALIVES = ("ping", "keepalive")
"""Names of events that only keep a connection open, like comments."""

_MAX_NAME = 256  # characters of a model's name
_QUOTED = 100  # characters of a message that is not JSON
_CANNOT_READ = "The upstream sent a message that cannot be read: "


class Answer:
    """The state of one answer. `model` is the name that the server was asked for, `pause` the time
    in seconds for which its account is used up.

    After each call either neither is set, or the answer is over: `ending` is its ending, or
    `failure` the exception to raise. `unfinished`: the server has ended it without a finish.
    """

    def __init__(
        self, dialect: Dialect, model: str, secrets: Sequence[str] = (), pause: float = 0.0
    ) -> None:
        self.begun = False
        self.unfinished = False
        self.ending: Complete | None = None
        self.failure: Refusal | None = None
        self._dialect = dialect
        self._model = model
        self._secrets = secrets
        self._pause = pause
        self._parser = EventParser()
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

    def load(self, data: bytes) -> int:
        """Return the bytes that feeding `data` would work on."""
        return len(data) + self._parser.held

    def feed(self, data: bytes) -> list[Event] | None:
        """Return the events of the next bytes, b"" at the end of the body, even of a broken one.

        The ending is the last event. None: the bytes were no sign of life.
        """
        events: list[Event] = []
        alive = self._relay(data, events) if data else self._end_of_body(events)
        if self.ending is not None:
            events.append(self.ending)
        return events if events or (alive and not self.begun) else None

    def _relay(self, data: bytes, events: list[Event]) -> bool:
        """Append the events of the next bytes. Returns False if they were no sign of life."""
        alive = False
        try:
            messages = self._parser.feed(data)
        except EventTooLargeError:
            self.failure = UpstreamError(TOO_LARGE)
            return False
        read = self._dialect.read
        for message in messages:
            if message.event in _KEEP_ALIVES or not message.data:
                continue
            alive = True
            try:
                seen = read(message)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                seen = self._read_masked(message)
            if isinstance(seen, Piece):
                if self.begun:
                    events.append(seen)
                else:
                    self._hold_back(seen, events)
            elif isinstance(seen, ErrorObject):
                self._fail(seen)
            if self._dialect.ended and self.failure is None:
                self._end()
            if self.over:
                break
        return alive

    def _end_of_body(self, events: list[Event]) -> bool:
        if self._dialect.finished:
            missing = self._dialect.complete()
            if missing is not None:
                events.append(missing)
            self._end()
            return True
        # A server that answers with JSON instead of a stream mostly reports an error.
        error = read_error(self._parser.remainder)
        if not self.begun and error.is_json:
            self._fail(error)
        else:
            self._fail_with(BROKEN_OFF)
        return False

    def _read_masked(self, message: ServerSentEvent) -> Piece | ErrorObject | None:
        """Read a message that the decoder refuses. If it is not JSON, the answer fails."""
        masked = mask_surrogates(message.data)
        if masked is not None:
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                seen = self._dialect.read(ServerSentEvent(message.event, masked))
                if isinstance(seen, Piece):
                    return Piece(unmask_surrogates(seen.data), seen.name)
                return seen
        self._fail_with(self._not_json(message.data))
        return None

    def _hold_back(self, piece: Piece, events: list[Event]) -> None:
        """Hold back a piece, until one says something and begins the answer."""
        self._held.append(piece)
        self._held_bytes += OVERHEAD + len(piece.data)
        if self._dialect.said or self._held_bytes > MAX_HELD:
            self.begun = True
            events.append(Started(self._dialect.model[:_MAX_NAME] or self._model))
            events += self._held
            self._held.clear()

    def _end(self) -> None:
        if not self.begun:
            self._fail_with(NO_ANSWER)
            return
        self.unfinished = not self._dialect.finished
        self.ending = Complete(self._dialect.usage, self._pause)

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
        said = ErrorObject(data.decode("utf-8", "replace")).without(self._secrets).message
        quoted = said if said == NOT_SHOWN else f"{_CANNOT_READ}{said[:_QUOTED]}"
        return Failed("upstream_error", quoted, "answer_broken_off")
