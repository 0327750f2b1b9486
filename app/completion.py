"""Renders a job's events in OpenAI's dialect: chunk by chunk, or folded into one completion. Pure.

Both come from the same events, so a streamed and a whole answer have the same text and end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from app.cut import Cut
from app.dialect import (
    Chunk,
    ChunkChoice,
    ChunkDelta,
    Completion,
    CompletionChoice,
    CompletionMessage,
    Usage,
)
from app.errors import ApiError, JobFailed
from app.text import Text
from settings import Bot
from wire.events import Delta, Done, Ending, Event, Failed, Finish, Started

_encode = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"


def message(data: msgspec.Struct) -> bytes:
    """One SSE message."""
    return b"data: " + _encode(data) + b"\n\n"


def comment(text: str) -> bytes:
    """An SSE comment: keeps the connection alive, and clients skip it."""
    return f": {text}\n\n".encode()


def error(failure: ApiError) -> bytes:
    """An error in the middle of a stream, which ends there without `[DONE]`."""
    return message(failure.object)


class Answer:
    """What has come of one answer."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        bot: Bot,
        *,
        cut: Cut | None = None,
        include_usage: bool = False,
    ) -> None:
        self.finish: Finish | None = None
        self.failure: JobFailed | None = None
        self._id = id
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._fingerprint: str | None = None
        self._role_sent = False
        self._text = Text(bot)
        self._cut = cut
        self._texts: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether any chunk has been rendered."""
        return self._role_sent

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._texts)

    def add(self, events: Iterable[Event]) -> bytes:
        """Take events in, and return the SSE messages that tell a streaming client of them.

        Empty for events that this client is not shown. After an ending, `finish` or `failure` is
        set.
        """
        rendered = b""
        for event in events:
            text = self._text.add(event)
            if self._cut is not None:
                text = self._cut.add(text) if text else ""
                if isinstance(event, Ending) and self._cut.finish is None:
                    text += self._cut.end()
            if text:
                self._texts.append(text)
                rendered += self._chunk(ChunkDelta(content=text))
            if self._cut is not None and self._cut.finish is not None:
                # Whatever would follow: this client has got all it asked for.
                self.finish = self._cut.finish
                return rendered + self._chunk(ChunkDelta(), self.finish)
            match event:
                case Delta():
                    pass  # first, being nearly all
                case Started(model):
                    self._fingerprint = fingerprint(model)
                    rendered += self.role()
                case Done(finish):
                    self.finish = finish
                    rendered += self._chunk(ChunkDelta(), finish)
                case Failed():
                    self.failure = JobFailed(event)
                    rendered += error(self.failure)
        return rendered

    def role(self) -> bytes:
        """The first chunk, which says who speaks; empty if it has been sent."""
        if self._role_sent:
            return b""
        self._role_sent = True
        return self._chunk(ChunkDelta(role="assistant", content=""))

    def empty_delta(self) -> bytes:
        """A chunk that says nothing, for clients that take comments for silence."""
        return self.role() + self._chunk(ChunkDelta(content=""))

    def _chunk(self, delta: ChunkDelta, finish: Finish | None = None) -> bytes:
        usage = None if self._include_usage else msgspec.UNSET
        return self._message([ChunkChoice(delta=delta, finish_reason=finish)], usage)

    def usage_chunk(self, usage: Usage) -> bytes:
        """The chunk after the last, for clients that asked for it."""
        return self._message([], usage)

    def _message(
        self, choices: list[ChunkChoice], usage: Usage | msgspec.UnsetType | None
    ) -> bytes:
        chunk = Chunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=usage,
        )
        return message(chunk)

    def completion(self, usage: Usage) -> bytes:
        """The whole answer, as the body of a response."""
        assert self.finish is not None  # noqa: S101 - only asked for after `Done`
        said = CompletionMessage(content=self.text)
        whole = Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[CompletionChoice(message=said, finish_reason=self.finish)],
            usage=usage,
            system_fingerprint=self._fingerprint,
        )
        return _encode(whole)


def fingerprint(model: str) -> str:
    """`system_fingerprint`: changes when the model behind the name does."""
    return "fp_" + hashlib.sha256(model.encode()).hexdigest()[:10]
