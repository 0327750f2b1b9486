"""Rendering of a relayed answer: its pieces, numbered for a client that resumes, or folded. Pure.

Each piece is one message, with a number of its own, in every rendering of the answer. Keep-alives,
errors and `[DONE]` have none, as in `app/openai/sse.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from app.openai.answers import QueuePlace
from app.openai.dialect import RenderOptions
from app.openai.errors import ApiError, JobFailed
from app.openai.sse import Messages
from app.relayed.folding import Fold, UnreadableAnswer
from app.relayed.form import Form
from runtime.large import work_on
from wire.events import Complete, Event, Failed, Piece, size_of

MAX_FOLDED = 32 * 1024 * 1024
"""Bytes of the events of a whole answer."""

UNNAMED = ("", "message")
"""Names of events that need no line of their own in a stream."""

_UNREADABLE = Failed(
    "upstream_error", "The upstream's answer cannot be read.", code="unreadable_answer"
)
_TOO_LONG = Failed(
    "upstream_error",
    "The upstream's answer is too long for a single body. Set `stream` to true.",
    code="answer_too_long",
)


class RelayedRendering:
    """One relayed answer: streamed, or put into a fold. See `app.delivery.Rendering`."""

    def __init__(self, form: Form, options: RenderOptions, fold: Fold | None = None) -> None:
        self.is_complete = False
        self.failure: ApiError | None = None
        self.begun = False
        self.headers: Mapping[str, str] = {}
        self._form = form
        self._options = options
        self._fold = fold
        self._folded = 0
        self._messages = Messages(
            form.head.id, numbered=options.numbered, after=options.resume_after
        )

    async def add(self, events: list[Event]) -> bytes:
        """Add events; return the messages that show them to a streaming client."""
        if self._fold is None:
            return self._add_all(events)
        size = sum(map(size_of, events))
        self._folded += size
        if self._folded > MAX_FOLDED:
            return self._fail(_TOO_LONG)
        return await work_on(size, partial(self._add_all, events))

    def _add_all(self, events: list[Event]) -> bytes:
        rendered = []
        for event in events:
            if self.failure is not None:
                break
            match event:
                case Piece():
                    rendered.append(self._add(event))
                case Complete(usage):
                    self.is_complete = True
                    if usage and (self._fold or self._options.include_usage):
                        rendered.append(self._add(Piece(usage)))
                case Failed():
                    rendered.append(self._fail(event))
                case _:
                    pass
        return b"".join(rendered)

    def _add(self, piece: Piece) -> bytes:
        self.begun = True
        if self._fold is None:
            name = b"" if piece.name in UNNAMED else b"event: %b\n" % piece.name.encode()
            return self._messages.next_encoded(self._form.data(piece), name)
        try:
            self._fold.add(piece)
        except UnreadableAnswer:
            self._fail(_UNREADABLE)
        return b""

    def _fail(self, failed: Failed) -> bytes:
        self.failure = JobFailed(failed)
        return self.error(self.failure)

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""
        self.begun = True
        return self._messages.comment(place)

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive in the dialect's own form; `place` while the job is waiting."""
        self.begun = True
        return self._form.alive(place) or self.comment(place)

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""
        text = b""
        if self._options.errors_as_text:
            prefix = "\n\n" if self._messages.number else ""
            text = self._form.error_text(f"{prefix}Error: {failure.object.error.message}")
        return text + self._form.error(failure)

    async def ending(self) -> bytes:
        """Render the end of a stream."""
        return self._form.done

    async def whole(self) -> bytes:
        """Render the whole answer, as the body of a response.

        Raises:
            JobFailed: its pieces are not those of an answer.
        """
        assert self._fold is not None  # noqa: S101 - only called for an answer that is folded
        try:
            return await work_on(self._folded, self._fold.body)
        except UnreadableAnswer:
            raise JobFailed(_UNREADABLE) from None
