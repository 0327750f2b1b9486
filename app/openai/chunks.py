"""Renders a job's events in OpenAI's dialect: chunk by chunk, or folded into one completion. Pure.

Both come from the same events, so a streamed and a whole answer have the same text and end.

The messages of a streamed answer are numbered, in an `id:` line at their end, where the simple
parsers of many bots do not look for it. The same events give the same messages under the same
numbers, however they came: the first says who speaks, then each event that shows anything has its
own. So a client that comes back is rendered everything again, without the messages it has had.
What does not come from the events has no number: keep-alives, errors and `[DONE]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from app.idempotency import tag
from app.openai.errors import ApiError, JobFailed
from app.openai.limits import Cut
from app.openai.requests import (
    Chunk,
    ChunkChoice,
    ChunkDelta,
    Completion,
    CompletionChoice,
    CompletionMessage,
    Usage,
)
from app.openai.text import Text
from settings import Bot
from wire.events import Delta, Done, Event, Failed, Finish, Started

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
    """What has come of one answer. Its first `resume_after` messages are not rendered."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        bot: Bot,
        *,
        cut: Cut | None = None,
        include_usage: bool = False,
        resume_after: int = 0,
    ) -> None:
        self.finish: Finish | None = None
        self.failure: JobFailed | None = None
        self._id = id
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._fingerprint: str | None = None
        self._role_sent = False
        self._name = f"\nid: {tag(id)}-".encode()
        self._number = 0
        self._resume_after = resume_after
        self._text = Text(bot)
        self._cut = cut
        self._texts: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether the first chunk has been rendered, or left out."""
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
                if self._cut.finish is None and _is_last(event):
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
        return self.role() + message(self._said(ChunkDelta(content="")))

    def usage_chunk(self, usage: Usage) -> bytes:
        """The chunk after the last, for clients that asked for it."""
        return self._numbered(self._with([], usage))

    def _chunk(self, delta: ChunkDelta, finish: Finish | None = None) -> bytes:
        if not self._role_sent:
            # Whatever comes first, the first message is the one that says who speaks.
            return self.role() + self._chunk(delta, finish)
        return self._numbered(self._said(delta, finish))

    def _numbered(self, chunk: Chunk) -> bytes:
        """The next message; empty if the client has had it."""
        self._number += 1
        if self._number <= self._resume_after:
            return b""
        return b"data: %b%b%d\n\n" % (_encode(chunk), self._name, self._number)

    def _said(self, delta: ChunkDelta, finish: Finish | None = None) -> Chunk:
        usage = None if self._include_usage else msgspec.UNSET
        return self._with([ChunkChoice(delta=delta, finish_reason=finish)], usage)

    def _with(self, choices: list[ChunkChoice], usage: Usage | msgspec.UnsetType | None) -> Chunk:
        return Chunk(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=usage,
        )

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


def _is_last(event: Event) -> bool:
    """Whether the answer ends with this event, for whoever follows it."""
    return isinstance(event, Done) or (isinstance(event, Failed) and event.fault != "let_go")


def fingerprint(model: str) -> str:
    """`system_fingerprint`: changes when the model behind the name does."""
    return "fp_" + hashlib.sha256(model.encode()).hexdigest()[:10]
