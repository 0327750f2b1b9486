"""One answer of Pandora-Next for each job: its files, its question, the stream, the downloads."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from runtime.pacing import Pacing
from wire.events import Delta, Ending, Event, Failed, is_ending
from wire.jobs import ChatJob, Identity
from workers.http.body import Body
from workers.pandora.deletions import ConversationRecord, Deletions
from workers.pandora.files.downloads import Downloads
from workers.pandora.files.uploaded import Uploaded
from workers.pandora.payload import upstream_model
from workers.pandora.questions import Questions
from workers.pandora.refusals import error_of
from workers.pandora.translate.exchange import Exchange, Step
from workers.pandora.translate.placeholders import ConfirmPolicy, Placeholder
from workers.pandora.translate.turn import Translator
from workers.pandora.transport import Encode, Transport
from workers.upstream import UpstreamBusy, UpstreamError

T = TypeVar("T")

_SIGN_OF_LIFE = 0.5
"""Seconds between two signs of life during an upload or download, when the upstream is silent."""

_LARGE = 64 * 1024
"""Bytes that are translated at once without keeping others waiting."""

logger = logging.getLogger(__name__)


class Pandora:
    """An `Upstream` that is a Pandora-Next server in proxy mode.

    `confirm` is the answer to actions that request permission. `anomalies` counts events that did
    no harm but should not happen, by name.
    """

    def __init__(
        self,
        questions: Questions,
        transport: Transport,
        downloads: Downloads,
        deletions: Deletions | None = None,
        confirm: ConfirmPolicy = "no",
    ) -> None:
        self.anomalies: Counter[str] = Counter()
        self._questions = questions
        self._transport = transport
        self._downloads = downloads
        self._deletions = deletions
        self._confirm = confirm

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `Upstream.answer`. Read on to the end after `Done`: that keeps the connection."""
        uploaded: dict[Identity, Uploaded] = {}
        if job.attachments:
            with _in_background(self._questions.upload(job)) as uploading:
                async for nothing in _signs_of_life(uploading):
                    yield nothing
                uploaded = uploading.result()
        question = await self._questions.prepare(job, uploaded)
        exchange = Exchange(upstream_model(job.family), self._confirm)
        translator = exchange.translator
        ending: Ending | None = None
        body: Body | None = None
        record = ConversationRecord(self._deletions, job.bearer)
        pacing = Pacing()
        try:
            body = await self._transport.post(job, question.encode, record)
            while ending is None:
                steps = await _translate(exchange, await body.read())
                pacing.begin()
                for outputs, alive in steps:
                    await record.note(translator.conversation_id)
                    events: list[Event] = []
                    for output in outputs:
                        # The first test is for speed: it settles nearly all, at a tenth of the
                        # cost.
                        if isinstance(output, Delta) or not isinstance(output, Placeholder):
                            events.append(output)
                            continue
                        yield events
                        fetch = self._downloads.fetch(job, translator.conversation_id, output)
                        with _in_background(fetch) as fetching:
                            async for nothing in _signs_of_life(fetching):
                                yield nothing
                            events = [fetching.result()]
                    if events and is_ending(last := events[-1]):
                        ending = last
                        self._count_anomalies(job, translator)
                        if isinstance(last, Failed):
                            if len(events) > 1:
                                yield events[:-1]
                            raise error_of(last)
                    if events or alive:
                        yield events
                    await pacing.pause()
                if exchange.granted is not None:
                    confirmation = partial(
                        question.encode_confirmation, translator.conversation_id, *exchange.granted
                    )
                    body = await self._continue(job, confirmation, record, body)
                    exchange.resume()
            await body.finish()
        finally:
            record.end()
            if body is not None:
                await body.close()

    async def aclose(self) -> None:
        """Close the connections that answers share."""
        await self._transport.aclose()

    async def _continue(
        self, job: ChatJob, confirmation: Encode, record: ConversationRecord, body: Body
    ) -> Body:
        """Post a confirmation, once the body before it is finished."""
        await body.finish()
        await body.close()
        try:
            return await self._transport.post(job, confirmation, record)
        except UpstreamBusy:
            # In the middle of an answer the job cannot wait and be tried again.
            message = "The upstream was too busy to go on after an action was allowed."
            raise UpstreamError(Failed("rate_limited", message, "upstream_busy")) from None

    def _count_anomalies(self, job: ChatJob, translator: Translator) -> None:
        seen = {
            "unknown": translator.unknown,
            "unfinished": int(translator.unfinished),
            "rewritten": int(translator.rewritten),
        }
        self.anomalies.update({name: count for name, count in seen.items() if count})
        if translator.unfinished or translator.rewritten:
            logger.warning(
                "the upstream ended an answer in an unexpected way",
                extra={"event": "upstream_odd_answer", "job": job.id, **seen},
            )


async def _translate(exchange: Exchange, data: bytes) -> Iterable[Step]:
    """The steps of translating bytes, all made in a thread if a single event may take long."""
    steps = exchange.feed(data)
    return await asyncio.to_thread(list, steps) if exchange.load(data) > _LARGE else steps


@contextmanager
def _in_background(work: Coroutine[object, object, T]) -> Iterator[asyncio.Task[T]]:
    """A task for the work, which ends with the context."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()


async def _signs_of_life(task: asyncio.Task[T]) -> AsyncGenerator[Sequence[Event], None]:
    """Empty batches at intervals, until a task is done."""
    while not (await asyncio.wait([task], timeout=_SIGN_OF_LIFE))[0]:
        yield []
