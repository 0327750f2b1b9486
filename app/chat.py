"""`POST /v1/chat/completions`: one chat, streamed or whole."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.files.attachments import Attachments, Held
from app.http.body import bearer, body
from app.http.json_answer import send_whole, whole
from app.http.links import Links
from app.http.stream import HEADERS, ResponseStream
from app.idempotency import resume_after
from app.line import Line
from app.models import Models
from app.openai import chunks as completion
from app.openai.errors import ApiError, UnsupportedParameter
from app.openai.limits import Cut
from app.openai.requests import ChatRequest, decode_chat, given_files, to_messages
from app.openai.usage import Prompt, encoding, prompt_of, usage
from app.scheduling import Terms, terms_of
from app.ticket import Ticket
from settings import Settings
from wire import VERSION
from wire.events import Event
from wire.jobs import ChatJob


class TakenIn(msgspec.Struct, frozen=True):
    """A request, ready for the line: without its messages, which are in its job or elsewhere."""

    asked: ChatRequest
    job: ChatJob
    prompt: Prompt
    terms: Terms


class Chat:
    """The feature: from a request to its answer."""

    def __init__(
        self, config: Settings, line: Line, models: Models, attachments: Attachments
    ) -> None:
        self._config = config
        self._line = line
        self._models = models
        self._attachments = attachments

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """Answer one request.

        Raises:
            ApiError: nothing has been sent yet, and this is what the client is to be told.
        """
        async with self._attachments.holding() as held:
            taken = await self._take_in(request, held)
            if taken.asked.stream:
                await self._stream(request, taken, held)
                return None
            return await send_whole(request, self._whole(request, taken, held), self._config.stream)

    async def _take_in(self, request: Request, held: Held) -> TakenIn:
        # Bodies with files in them are large: nothing of one outlives this, but what is returned.
        server = self._config.server
        token = bearer(request)
        content = await body(request, server.max_body_bytes, server.body_timeout, held.charge)
        asked = decode_chat(content)
        if not self._config.compat.ignore_unsupported and (field := asked.unsupported):
            raise UnsupportedParameter(
                f"The upstream cannot do what `{field}` asks for. Leave it out, or let the operator"
                " have it ignored (compat.ignore_unsupported).",
                param=field,
            )
        family = self._models.family(asked.model)
        named = self._line.idempotency(request, content)
        del content
        terms = terms_of(request, asked.user, asked.service_tier, named)
        given = given_files(asked.messages)
        if given and family == "gpt_3_5":
            raise UnsupportedParameter("GPT-3.5 takes no files.", param=given[0].param)
        files = await self._attachments.take(given, held)
        del given
        messages = to_messages(asked.messages, files)
        asked = replace(asked, messages=[])
        job = ChatJob(
            version=VERSION,
            id=f"chatcmpl-{secrets.token_hex(16)}",
            family=family,
            bearer=token,
            messages=messages,
            gpt=self._models.gpt(asked.model),
        )
        light = await self._attachments.lighten(job, held)
        return TakenIn(asked, light, prompt_of(messages), terms)

    @asynccontextmanager
    async def _submitted(self, taken: TakenIn, held: Held) -> AsyncIterator[Ticket]:
        async with self._line.submit(taken.job, taken.terms) as ticket:
            held.charge.give_back()
            if taken.terms.idempotency is not None and ticket.id == taken.job.id:
                held.names.clear()  # the job may outlive this request; its worker removes them
            yield ticket

    def _answer(self, request: Request, asked: ChatRequest, ticket: Ticket) -> completion.Answer:
        limit = asked.longest
        return completion.Answer(
            ticket.id,
            asked.model,
            int(time.time()),
            self._config.bot,
            cut=Cut(asked.stops, limit, encoding()) if asked.stops or limit else None,
            include_usage=asked.include_usage,
            resume_after=resume_after(request.headers.get("last-event-id"), ticket.id),
        )

    async def _whole(self, request: Request, taken: TakenIn, held: Held) -> HTTPResponse:
        links = Links(request, self._config.server)
        async with self._submitted(taken, held) as ticket:
            answer = self._answer(request, taken.asked, ticket)
            while answer.finish is None:
                _take(answer, ticket, links.into(await ticket.events()))
                if answer.failure:
                    raise answer.failure
            counted = await usage(taken.prompt, answer.text)
            return whole(answer.completion(counted), ticket.headers)

    async def _stream(self, request: Request, taken: TakenIn, held: Held) -> None:
        async with self._submitted(taken, held) as ticket:
            answer = self._answer(request, taken.asked, ticket)
            await self._send(request, taken, answer, ticket)

    async def _send(
        self, request: Request, taken: TakenIn, answer: completion.Answer, ticket: Ticket
    ) -> None:
        links = Links(request, self._config.server)
        # Until something is sent, a failure still has its real status.
        events = await ticket.events(self._config.stream.grace)
        first = _take(answer, ticket, links.into(events))
        if answer.failure and not answer.begun:
            raise answer.failure
        headers = HEADERS | ticket.headers
        stream = await ResponseStream.begin(request, self._config.stream.send_timeout, headers)
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
            if taken.asked.include_usage:
                end = answer.usage_chunk(await usage(taken.prompt, answer.text)) + end
            await stream.send(end)
        await stream.end()

    async def _keepalive(self, answer: completion.Answer, ticket: Ticket) -> bytes:
        match self._config.stream.keepalive:
            case "comment":
                at = None if ticket.begun else await ticket.status()
                if at is None or at.state != "waiting":
                    return completion.comment("working")
                return completion.comment(f"queued position={at.place} eta={math.ceil(at.wait)}")
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
        ticket.leave(enough=True)
    return said
