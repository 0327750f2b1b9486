"""Delivers an answer to its client, streamed or whole. The same in every dialect."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from sanic import HTTPResponse, Request

import settings
from app.files.attachments import Resources
from app.http.access_log import entry_of, log_failure
from app.http.allowance import allowance_headers
from app.http.json_answer import encoded_json
from app.http.keepalive import StreamKeepalive, stream_keepalive
from app.http.stream import SSE_HEADERS, ResponseStream
from app.http.whole_answer import send_with_keepalive
from app.line import Line, SealedJob, Ticket
from app.openai.answers import QueuePlace
from app.openai.dialect import RenderOptions
from app.openai.errors import ApiError
from app.openai.sse import resume_after
from app.scheduling import Scheduling
from wire.events import Event, Failed


class Rendering(Protocol):
    """One answer in the form in which its client gets it, as far as its events were received."""

    @property
    def is_complete(self) -> bool:
        """True once the answer has ended well."""

    @property
    def failure(self) -> ApiError | None:
        """The reason for which the answer has failed."""

    @property
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer, besides those of its job."""

    async def add(self, events: list[Event]) -> bytes:
        """Add events; return the messages that show them to a streaming client."""

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive in the dialect's own form; `place` while the job is waiting."""

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""

    async def ending(self) -> bytes:
        """Render the end of a stream."""

    async def whole(self) -> bytes:
        """Render the whole answer, as the body of a response."""


class PreparedRequest(msgspec.Struct, frozen=True):
    """A request that is ready to be enqueued. Little else is kept of it while it waits.

    `render` makes the rendering of the answer to the job with an id; it raises AnswerLost.
    """

    job: SealedJob
    scheduling: Scheduling
    stream: bool
    render: Callable[[str], Rendering]


def rendering_options(
    request: Request, scheduling: Scheduling, job: str, config: settings.Stream
) -> RenderOptions:
    """Return the options that all dialects have in common.

    Raises:
        AnswerLost: the request's `Last-Event-ID` does not name a message of this answer.
    """
    numbered = scheduling.idempotency is not None
    last = request.headers.get("last-event-id") if numbered else None
    return RenderOptions(
        numbered=numbered,
        resume_after=resume_after(last, job),
        errors_as_text=config.errors == "both",
    )


class Delivery:
    """Puts requests in line, and delivers their answers."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._config = line.config.stream

    async def respond(
        self, request: Request, prepared: PreparedRequest, resources: Resources
    ) -> HTTPResponse | None:
        """Answer a request; return None if the response has been sent.

        Raises:
            ApiError: the request failed before anything was sent.
        """
        if not prepared.stream:
            whole = self._whole(request, prepared, resources)
            return await send_with_keepalive(request, whole, self._config)
        with await self._submit(request, prepared, resources) as ticket:
            await _discard_unneeded(prepared, ticket, resources)
            await self._stream(request, prepared.render(ticket.id), ticket)
        return None

    async def _submit(
        self, request: Request, prepared: PreparedRequest, resources: Resources
    ) -> Ticket:
        ticket = await self._line.submit(prepared.job, prepared.scheduling, entry_of(request))
        resources.reservation.release()
        if prepared.scheduling.idempotency is not None and ticket.id == prepared.job.id:
            # The job may outlive this request; its worker removes them.
            resources.blob_keys.clear()
        return ticket

    async def _whole(
        self, request: Request, prepared: PreparedRequest, resources: Resources
    ) -> HTTPResponse:
        with await self._submit(request, prepared, resources) as ticket:
            await _discard_unneeded(prepared, ticket, resources)
            rendering = prepared.render(ticket.id)
            while not rendering.is_complete:
                await _add(rendering, ticket, await ticket.events())
                if rendering.failure:
                    raise rendering.failure
            body = await rendering.whole()
            return encoded_json(body, _headers(request, ticket) | dict(rendering.headers))

    async def _stream(self, request: Request, rendering: Rendering, ticket: Ticket) -> None:
        clock = asyncio.get_running_loop().time
        # Until something is sent, a failure can still have its own status.
        events = await ticket.events(clock() + self._config.grace)
        first = await _add(rendering, ticket, events)
        # Some dialects begin an answer to show an error in it.
        if rendering.failure and (not rendering.begun or isinstance(events[0], Failed)):
            raise rendering.failure
        headers = SSE_HEADERS | _headers(request, ticket) | dict(rendering.headers)
        stream = await ResponseStream.begin(request, self._config.send_timeout, headers)
        kind = stream_keepalive(request, self._config)
        await stream.send(first or await _keepalive(kind, rendering, ticket, at_once=True))
        stream.forget_headers()
        interval = self._config.keepalive_interval
        # The first one early, by chance: else those who came together would ask together forever.
        due = clock() + interval * random.random()  # noqa: S311 - not a secret
        while not (rendering.is_complete or rendering.failure):
            try:
                events = await ticket.events(due)
                rendered = await _add(rendering, ticket, events)
                # Events that this client is not shown must not delay its keep-alive.
                if not rendered and clock() >= due:
                    rendered = await _keepalive(kind, rendering, ticket)
                    due = clock() + interval
            except ApiError as error:
                log_failure(request, error)
                await stream.send(rendering.error(error))
                break
            if rendered:
                await stream.send(rendered)
                due = clock() + interval
        if rendering.failure:
            log_failure(request, rendering.failure)
        if rendering.is_complete:
            await stream.send(await rendering.ending())
        await stream.end()


def _headers(request: Request, ticket: Ticket) -> dict[str, str]:
    return ticket.headers | allowance_headers(request, ticket.allowance)


async def _discard_unneeded(
    prepared: PreparedRequest, ticket: Ticket, resources: Resources
) -> None:
    if ticket.id != prepared.job.id:  # it reads the answer of an earlier request
        await resources.discard_blobs()


async def _keepalive(
    kind: StreamKeepalive, rendering: Rendering, ticket: Ticket, *, at_once: bool = False
) -> bytes:
    if kind == "off":
        return b""
    now = await ticket.current_place(at_once=at_once)
    place = QueuePlace(now.place, math.ceil(now.wait)) if now else None
    return rendering.comment(place) if kind == "comment" else rendering.empty_delta(place)


async def _add(rendering: Rendering, ticket: Ticket, events: list[Event]) -> bytes:
    """Add events to an answer; detach from the job as soon as the answer is complete.

    Not at the end of the request: the last chunk may wait for a slow client, and slots are scarce.
    """
    rendered = await rendering.add(events)
    if rendering.is_complete:
        ticket.detach(enough=True)
    return rendered
