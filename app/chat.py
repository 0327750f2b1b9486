"""One chat, streamed or whole, in any dialect of OpenAI's API (`app/openai/dialect.py`)."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Mapping
from functools import partial

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.files.attachments import Attachments, Resources
from app.http.access_log import log_failure
from app.http.body import SMALL, read_bearer, read_body
from app.http.json_answer import encoded_json, send_with_keepalive
from app.http.keepalive import StreamKeepalive, stream_keepalive
from app.http.links import MediaLinks
from app.http.stream import SSE_HEADERS, ResponseStream
from app.idempotency import read_idempotency
from app.items import Items
from app.job_ids import accepted_at, new_job_id
from app.line import Line, SealedJob, Ticket, seal_job
from app.models import ModelCatalog
from app.openai.answers import QueuePlace
from app.openai.dialect import Answer, AnswerMaker, Dialect, RenderOptions
from app.openai.emulation import Emulation, emulate
from app.openai.errors import ApiError, UnsupportedParameter
from app.openai.messages import given_files, memory, to_messages
from app.openai.reading import AnswerReader
from app.openai.requests import ChatRequest
from app.openai.sse import resume_after
from app.openai.tool_calls import CallRules
from app.openai.usage import Prompt, prompt_tokens, summarize_prompt, usage
from app.scheduling import Scheduling, read_scheduling
from runtime.large import work_on
from store.blobs import LARGE
from wire import VERSION
from wire.events import Event
from wire.jobs import Attachment, ChatJob, Message, Offloaded, encode_messages
from wire.seal import Seal

FORMAT_WARNING = "x-format-warning"
"""Header of an answer that is not streamed, with the code of its warning."""


class Conversation(msgspec.Struct, frozen=True):
    """The messages of a request as its job carries them, or encoded if they are long."""

    messages: list[Message]
    encoded: bytes
    prompt: Prompt | None
    """Needed only for an answer that has a usage."""


class AnswerForm(msgspec.Struct, frozen=True):
    """Form of the answer that a request asks for."""

    model: str
    stream: bool
    include_usage: bool
    stops: list[str]
    token_limit: int | None

    @property
    def has_usage(self) -> bool:
        """True if the answer has the number of tokens."""
        return self.include_usage or not self.stream

    @property
    def memory(self) -> int:
        """Bytes that the stop sequences take."""
        return sum(map(sys.getsizeof, self.stops))


class PreparedChat(msgspec.Struct, frozen=True):
    """A request that is ready to be enqueued: all that is kept of it while it waits.

    `call_rules` are for reading tool calls, `headers` those of the answer.
    """

    form: AnswerForm
    answer: AnswerMaker
    job: SealedJob
    prompt_tokens: int
    scheduling: Scheduling
    call_rules: CallRules | None
    headers: dict[str, str]


class Chats:
    """Handler of chat requests, in one dialect."""

    def __init__(
        self,
        dialect: Dialect,
        seal: Seal,
        line: Line,
        models: ModelCatalog,
        attachments: Attachments,
        items: Items,
    ) -> None:
        self._dialect = dialect
        self._config = line.config
        self._seal = seal
        self._line = line
        self._models = models
        self._attachments = attachments
        self._items = items

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """Answer one request.

        Raises:
            ApiError: the request failed before anything was sent.
        """
        try:
            return await self._respond(request)
        except ApiError as failure:
            self._dialect.renamed(failure)
            raise

    async def _respond(self, request: Request) -> HTTPResponse | None:
        async with self._attachments.resources() as resources:
            chat = await self._prepare(request, resources)
            if not chat.form.stream:
                whole = self._whole(request, chat, resources)
                return await send_with_keepalive(request, whole, self._config.stream)
            with await self._submit(chat, resources) as ticket:
                await _discard_unneeded(chat, ticket, resources)
                await self._stream(request, chat, ticket)
            return None

    async def _prepare(self, request: Request, resources: Resources) -> PreparedChat:
        # Bodies with files in them are large: nothing of one outlives this call except the result.
        bearer = read_bearer(request)
        body = await read_body(request, self._config.server, resources.reservation)
        size = len(body)
        decoded = await work_on(size, partial(self._dialect.decode, body))
        answer, kept = decoded.answer, decoded.memory
        found = await self._items.find(bearer, decoded.references)
        size += found.size
        chat = await work_on(size, partial(decoded.chat, found.messages))
        del decoded, found
        emulation = emulate(chat, self._config.compat)
        chat = replace(chat, tools=None, functions=None, response_format=None)  # views of the body
        idempotency = await read_idempotency(request.headers, request.path, body, self._seal)
        del body
        scheduling = read_scheduling(request, chat.user, chat.service_tier, idempotency)
        if size > SMALL:
            texts = await work_on(size, partial(memory, chat.messages))
            await resources.reservation.grow(texts)
        files = await work_on(size, partial(given_files, chat.messages))
        family = self._models.family(chat.model, large=bool(files))
        if files and family == "gpt_3_5":
            message = f"Files are not supported by the model `{chat.model}`."
            raise UnsupportedParameter(message, param=files[0].param)
        received = await self._attachments.receive(files, resources)
        del files
        form = _form(chat)
        said = await work_on(size, partial(_converse, chat, received, emulation, form))
        del chat
        job = ChatJob(
            version=VERSION,
            id=new_job_id(self._dialect.id_prefix),
            family=family,
            bearer=bearer,
            messages=said.messages,
            gpt=self._models.gpt(form.model),
            offloaded=await self._offload(said.encoded, received, resources),
            json=emulation.json_answer,
        )
        tokens = await prompt_tokens(said.prompt) if said.prompt else 0
        rules, headers = emulation.call_rules, emulation.headers(self._dialect.field)
        sealed = seal_job(self._seal, job, kept + form.memory + (rules.memory if rules else 0))
        return PreparedChat(form, answer, sealed, tokens, scheduling, rules, headers)

    async def _offload(
        self, messages: bytes, files: Mapping[str, Attachment], resources: Resources
    ) -> Offloaded | None:
        """Put encoded messages in the store; None if there are none."""
        if not messages:
            return None
        file_bytes = sum(file.size for file in files.values() if file.blob_key)
        return await self._attachments.offload(messages, file_bytes, resources)

    async def _submit(self, chat: PreparedChat, resources: Resources) -> Ticket:
        ticket = await self._line.submit(chat.job, chat.scheduling)
        resources.reservation.release()
        if chat.scheduling.idempotency is not None and ticket.id == chat.job.id:
            # The job may outlive this request; its worker removes them.
            resources.blob_keys.clear()
        return ticket

    def _answer(self, request: Request, chat: PreparedChat, ticket: Ticket) -> Answer:
        form, rules = chat.form, chat.call_rules
        numbered = chat.scheduling.idempotency is not None
        last = request.headers.get("last-event-id") if numbered else None
        return chat.answer(
            ticket.id,
            form.model,
            accepted_at(ticket.id),
            AnswerReader(self._config.bot, form.stops, form.token_limit, rules),
            RenderOptions(
                form.include_usage,
                numbered,
                resume_after(last, ticket.id),
                legacy_calls=rules is not None and rules.legacy,
                errors_as_text=self._config.stream.errors == "both",
                stores_items=self._items.are_stored,
            ),
        )

    async def _whole(
        self, request: Request, chat: PreparedChat, resources: Resources
    ) -> HTTPResponse:
        links = MediaLinks(request, self._config.server)
        with await self._submit(chat, resources) as ticket:
            await _discard_unneeded(chat, ticket, resources)
            answer = self._answer(request, chat, ticket)
            while answer.finish is None:
                await self._add(chat, answer, ticket, links.add_to(await ticket.events()))
                if answer.failure:
                    raise self._dialect.renamed(answer.failure)
            tokens = await usage(chat.prompt_tokens, answer.text)
            headers = ticket.headers | chat.headers
            if answer.warning is not None:
                headers[FORMAT_WARNING] = answer.warning.code
            return encoded_json(answer.whole(tokens), headers)

    async def _add(
        self, chat: PreparedChat, answer: Answer, ticket: Ticket, events: list[Event]
    ) -> bytes:
        """Add events to an answer, and store the items that end with them.

        Detach from the job as soon as the answer is complete, and not at the end of the request:
        the last chunk may wait for a slow client, and slots are scarce.
        """
        rendered = answer.add(events)
        if answer.finish:
            ticket.detach(enough=True)
        await self._items.store(chat.job.bearer, answer.ended_items())
        return rendered

    async def _stream(self, request: Request, chat: PreparedChat, ticket: Ticket) -> None:
        answer = self._answer(request, chat, ticket)
        links = MediaLinks(request, self._config.server)
        # Until something is sent, a failure can still have its own status.
        events = await ticket.events(self._config.stream.grace)
        first = await self._add(chat, answer, ticket, links.add_to(events))
        if answer.failure and not answer.begun:
            raise answer.failure
        headers = SSE_HEADERS | ticket.headers | chat.headers
        stream = await ResponseStream.begin(request, self._config.stream.send_timeout, headers)
        kind = stream_keepalive(request, self._config.stream)
        await stream.send(first or await _keepalive(kind, answer, ticket, at_once=True))
        stream.forget_headers()
        interval = self._config.stream.keepalive_interval
        # The first one early, by chance: else those who came together would ask together forever.
        due = time.monotonic() + interval * random.random()  # noqa: S311 - not a secret
        while not (answer.finish or answer.failure):
            try:
                events = await ticket.events(max(0.0, due - time.monotonic()))
                rendered = await self._add(chat, answer, ticket, links.add_to(events))
                # Events that this client is not shown must not delay its keep-alive.
                if not rendered and time.monotonic() >= due:
                    rendered = await _keepalive(kind, answer, ticket)
                    due = time.monotonic() + interval
            except ApiError as error:
                log_failure(request, error)
                await stream.send(answer.error(error))
                break
            if rendered:
                await stream.send(rendered)
                due = time.monotonic() + interval
        if answer.failure:
            log_failure(request, answer.failure)
        if answer.finish:
            counted = chat.form.include_usage
            tokens = await usage(chat.prompt_tokens, answer.text) if counted else None
            await stream.send(answer.ending(tokens))
        await stream.end()


def _form(chat: ChatRequest) -> AnswerForm:
    return AnswerForm(
        model=chat.model,
        stream=bool(chat.stream),
        include_usage=chat.include_usage,
        stops=chat.stops,
        token_limit=chat.token_limit,
    )


def _converse(
    chat: ChatRequest, files: Mapping[str, Attachment], emulation: Emulation, form: AnswerForm
) -> Conversation:
    messages = emulation.instruct(to_messages(chat.messages, files))
    encoded = encode_messages(messages)
    prompt = summarize_prompt(messages) if form.has_usage else None
    is_long = len(encoded) > LARGE
    return Conversation([] if is_long else messages, encoded if is_long else b"", prompt)


async def _discard_unneeded(chat: PreparedChat, ticket: Ticket, resources: Resources) -> None:
    if ticket.id != chat.job.id:  # it reads the answer of an earlier request
        await resources.discard_blobs()


async def _keepalive(
    kind: StreamKeepalive, answer: Answer, ticket: Ticket, *, at_once: bool = False
) -> bytes:
    if kind == "off":
        return b""
    now = await ticket.current_place(at_once=at_once)
    place = QueuePlace(now.place, math.ceil(now.wait)) if now else None
    return answer.comment(place) if kind == "comment" else answer.empty_delta(place)
