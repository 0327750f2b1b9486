"""JSON answers: held back until they are complete and checked, and corrected once if necessary.

Works in front of any upstream: the correction is a second conversation in the same job and under
the same lease, with the model's first reply among its messages. If it fails, or its reply is no
better, the answer is the JSON there is, or the text, and says so (`FormatMissed`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from wire.events import Delta, Done, Event, Failed, FormatMissed, Started
from wire.jobs import ChatJob, JsonAnswer, Message
from workers.json_check import JsonText, check_json
from workers.upstream import Upstream, UpstreamBusy, UpstreamError

logger = logging.getLogger(__name__)

LONGEST_TEXT = 400_000
"""Characters of one reply that are held back. Checking more would stop the event loop for over
50 ms: the interpreter's lock is held while a text is decoded, or quoted in an error."""

_TOO_LONG = Failed(
    "upstream_error", "The JSON answer is longer than this gateway checks.", "answer_too_long"
)
_CORRECTION = (
    "Your reply does not have the required format: {}. Reply again, with the corrected JSON and"
    " nothing else: no explanation, no code fence."
)


class JsonAnswers:
    """An `Upstream` in front of another one. Passes on answers that need not be JSON."""

    def __init__(self, upstream: Upstream[ChatJob]) -> None:
        self._upstream = upstream

    def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `Upstream.answer`. Yields signs of life until a JSON answer is complete."""
        return self._upstream.answer(job) if job.json is None else self._checked(job, job.json)

    async def _checked(
        self, job: ChatJob, form: JsonAnswer
    ) -> AsyncGenerator[Sequence[Event], None]:
        first = _Reply()
        async for nothing in first.read(self._upstream, job):
            yield nothing
        checked = await first.check(form)
        if checked.problem in (None, "not_checked") or first.done != Done("stop"):
            yield first.events(checked)
            return
        logger.info(
            "the model is asked to correct a JSON answer",
            extra={"event": "json_corrected", "job": job.id, "problem": checked.problem},
        )
        second = _Reply()
        try:
            async for nothing in second.read(self._upstream, _corrected(job, first, checked)):
                yield nothing
        except (UpstreamBusy, UpstreamError):
            yield first.events(checked)
            return
        again = await second.check(form)
        better = again.problem != "invalid_json" or checked.problem == "invalid_json"
        yield first.events(again if better and again.text.strip() else checked)


class _Reply:
    """One reply of the model, read to its end."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.done: Done | None = None
        self._texts: list[str] = []
        self._length = 0

    async def read(
        self, upstream: Upstream[ChatJob], job: ChatJob
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Read the reply; yield an empty batch for each of the upstream's.

        Raises:
            UpstreamBusy, UpstreamError: see `Upstream.answer`.
        """
        async with aclosing(upstream.answer(job)) as batches:
            async for batch in batches:
                for event in batch:
                    self._add(event)
                yield []

    def _add(self, event: Event) -> None:
        match event:
            case Delta(text, "text"):
                self._texts.append(text)
                self._length += len(text)
                if self._length > LONGEST_TEXT:
                    raise UpstreamError(_TOO_LONG)
            case Started():
                self.started = event
            case Done():
                self.done = event
            case Failed():
                raise UpstreamError(event)
            case _:
                pass  # tools of the upstream; JSON has no place for them

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self._texts)

    async def check(self, answer: JsonAnswer) -> JsonText:
        """Check the text in a thread: it takes up to a second."""
        text = self.text
        if answer.unless and answer.unless in text:
            return JsonText(text)
        return await asyncio.to_thread(check_json, text, answer.schema)

    def events(self, checked: JsonText) -> list[Event]:
        """The answer, with a checked text in place of its own."""
        return [
            *([self.started] if self.started else []),
            *([Delta(checked.text)] if checked.text else []),
            *([FormatMissed(checked.problem, checked.reason)] if checked.problem else []),
            *([self.done] if self.done else []),
        ]


def _corrected(job: ChatJob, reply: _Reply, checked: JsonText) -> ChatJob:
    correction = Message("user", _CORRECTION.format(checked.reason))
    return replace(job, messages=[*job.messages, Message("assistant", reply.text), correction])
