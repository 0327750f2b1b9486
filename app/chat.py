"""`POST /v1/chat/completions`: one chat, streamed or whole."""

from __future__ import annotations

import secrets
import time

from sanic import HTTPResponse, Request
from sanic.response import raw

from app import completion
from app.cut import Cut
from app.dialect import ChatRequest, decode_chat, to_messages
from app.errors import ApiError, NotBuilt, UnsupportedParameter
from app.intake import bearer, body
from app.line import Line, Ticket
from app.links import Links
from app.models import Models
from app.stream import EventStream
from app.usage import encoding, usage
from settings import Settings
from wire import VERSION
from wire.events import Event
from wire.jobs import ChatJob


class Chat:
    """The feature: from a request to its answer."""

    def __init__(self, config: Settings, line: Line, models: Models) -> None:
        self._config = config
        self._line = line
        self._models = models

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """Answer one request.

        Raises:
            ApiError: nothing has been sent yet, and this is what the client is to be told.
        """
        server = self._config.server
        token = bearer(request)
        given = await body(request, server.max_body_bytes, server.body_timeout)
        if "idempotency-key" in request.headers:
            raise NotBuilt("Idempotency-Key is not supported yet.")
        asked = decode_chat(given)
        if not self._config.compat.ignore_unsupported and (field := asked.unsupported):
            raise UnsupportedParameter(
                f"The upstream cannot do what `{field}` asks for. Leave it out, or let the operator"
                " have it ignored (compat.ignore_unsupported).",
                param=field,
            )
        job = ChatJob(
            version=VERSION,
            id=f"chatcmpl-{secrets.token_hex(16)}",
            family=self._models.family(asked.model),
            bearer=token,
            messages=to_messages(asked.messages),
            gpt=self._models.gpt(asked.model),
        )
        limit = asked.longest
        answer = completion.Answer(
            job.id,
            asked.model,
            int(time.time()),
            self._config.bot,
            cut=Cut(asked.stops, limit, encoding()) if asked.stops or limit else None,
            include_usage=asked.include_usage,
        )
        links = Links(request, server)
        async with self._line.submit(job) as ticket:
            if asked.stream:
                await self._stream(request, asked, job, answer, ticket, links)
                return None
            return await self._whole(job, answer, ticket, links)

    async def _whole(
        self, job: ChatJob, answer: completion.Answer, ticket: Ticket, links: Links
    ) -> HTTPResponse:
        while answer.finish is None:
            _take(answer, ticket, links.into(await ticket.events()))
            if answer.failure:
                raise answer.failure
        counted = await usage(job.messages, answer.text)
        return raw(answer.completion(counted), content_type="application/json")

    async def _stream(
        self,
        request: Request,
        asked: ChatRequest,
        job: ChatJob,
        answer: completion.Answer,
        ticket: Ticket,
        links: Links,
    ) -> None:
        # Until something is sent, a failure still has its real status.
        events = await ticket.events(self._config.stream.grace)
        first = _take(answer, ticket, links.into(events))
        if answer.failure and not answer.begun:
            raise answer.failure
        stream = await EventStream.begin(request, self._config.stream.send_timeout)
        await stream.send(first or await self._keepalive(answer, ticket))
        interval = self._config.stream.keepalive_interval
        due = time.monotonic() + interval
        while not (answer.finish or answer.failure):
            try:
                events = await ticket.events(max(0.0, due - time.monotonic()))
                said = _take(answer, ticket, links.into(events))
                # Events that this client is not shown must not keep it waiting without a sign.
                if not said and time.monotonic() >= due:
                    said = await self._keepalive(answer, ticket)
                    due = time.monotonic() + interval
            except ApiError as error:
                await stream.send(completion.error(error))
                break
            if said:
                await stream.send(said)
                due = time.monotonic() + interval
        if answer.finish:
            end = completion.DONE
            if asked.include_usage:
                end = answer.usage_chunk(await usage(job.messages, answer.text)) + end
            await stream.send(end)
        await stream.end()

    async def _keepalive(self, answer: completion.Answer, ticket: Ticket) -> bytes:
        match self._config.stream.keepalive:
            case "comment":
                place = 0 if ticket.begun else await ticket.place()
                return completion.comment(f"queued position={place}" if place else "working")
            case "empty_delta":
                return answer.empty_delta()
            case "off":
                return b""


def _take(answer: completion.Answer, ticket: Ticket, events: list[Event]) -> bytes:
    """Add events to an answer, and let go of the job as soon as nothing more of it is wanted.

    Not when the request ends: the last chunk may wait for a slow client, and the slot is scarce.
    """
    said = answer.add(events)
    if answer.finish:
        ticket.leave()
    return said
