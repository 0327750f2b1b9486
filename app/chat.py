"""One chat, streamed or whole, in any dialect (`app/openai/dialect.py`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial

import msgspec
from msgspec.structs import replace
from sanic import Request

from app.auth import Caller
from app.delivery import PreparedRequest, rendering_options
from app.files.attachments import Attachments, Resources
from app.http.access_log import entry_of
from app.http.body import SMALL, ReceivedBody
from app.http.links import MediaLinks
from app.idempotency import read_idempotency
from app.items import Items
from app.job_ids import accepted_at, new_job_id
from app.line import seal_job
from app.models import ModelCatalog
from app.openai.answers import QueuePlace, Usage
from app.openai.dialect import Answer, AnswerMaker, Dialect
from app.openai.emulation import Emulation, emulate
from app.openai.errors import ApiError, UnsupportedParameter
from app.openai.messages import given_files, memory, to_messages
from app.openai.reading import AnswerReader
from app.openai.requests import ChatRequest
from app.openai.tool_calls import CallRules
from app.openai.usage import usage
from app.scheduling import Scheduling, read_scheduling
from runtime.large import work_on
from settings import Settings
from store.blobs import LARGE
from wire import VERSION
from wire.events import Event
from wire.jobs import Attachment, ChatJob, Message, Offloaded, encode_messages
from wire.seal import Seal
from wire.tokens.prompt import Prompt, prompt_tokens, summarize_prompt

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
    """All that is kept of a chat, besides its job, until its answer has been rendered.

    `call_rules` are for reading tool calls, `headers` those of the answer.
    """

    caller: Caller
    form: AnswerForm
    answer: AnswerMaker
    prompt_tokens: int
    scheduling: Scheduling
    call_rules: CallRules | None
    headers: dict[str, str]


class Chats:
    """Handler of chat requests, in one dialect."""

    def __init__(
        self,
        dialect: Dialect,
        config: Settings,
        seal: Seal,
        models: ModelCatalog,
        attachments: Attachments,
        items: Items,
    ) -> None:
        self._dialect = dialect
        self._config = config
        self._seal = seal
        self._models = models
        self._attachments = attachments
        self._items = items

    async def prepare(
        self, request: Request, caller: Caller, received: ReceivedBody, resources: Resources
    ) -> PreparedRequest:
        """Prepare a request for the line.

        Raises:
            ApiError: it is invalid, or too large for now.
        """
        try:
            return await self._prepare(request, caller, received, resources)
        except ApiError as failure:
            self._dialect.renamed(failure)
            raise

    async def _prepare(
        self, request: Request, caller: Caller, received: ReceivedBody, resources: Resources
    ) -> PreparedRequest:
        # Bodies with files in them are large: nothing of one outlives this call except the result.
        body = received.take()
        size = len(body)
        decoded = await work_on(size, partial(self._dialect.decode, body))
        answer, kept_bytes, ignored = decoded.answer, decoded.memory, decoded.ignored
        found = await self._items.find(caller.identity, decoded.references)
        size += found.size
        chat = await work_on(size, partial(decoded.chat, found.messages))
        del decoded, found
        entry_of(request).model = chat.model
        caller.check_model(chat.model)
        emulation = emulate(chat, self._config.compat, ignored)
        chat = replace(chat, tools=None, functions=None, response_format=None)  # views of the body
        idempotency = await read_idempotency(request.headers, request.path, body, self._seal)
        del body
        scheduling = read_scheduling(request, caller, chat.user, chat.service_tier, idempotency)
        if size > SMALL:
            texts = await work_on(size, partial(memory, chat.messages))
            await resources.reservation.grow(texts)
        files = await work_on(size, partial(given_files, chat.messages))
        family = self._models.family(chat.model, large=bool(files))
        if files and family == "gpt_3_5":
            message = f"Files are not supported by the model `{chat.model}`."
            raise UnsupportedParameter(message, param=files[0].param)
        attached = await self._attachments.receive(files, resources)
        del files
        form = _form(chat)
        said = await work_on(size, partial(_converse, chat, attached, emulation, form))
        del chat
        job = ChatJob(
            version=VERSION,
            id=new_job_id(self._dialect.id_prefix),
            family=family,
            bearer=caller.bearer,
            messages=said.messages,
            gpt=self._models.gpt(form.model),
            offloaded=await self._offload(said.encoded, attached, resources),
            json=emulation.json_answer,
            key=caller.fingerprint,
            trace=entry_of(request).span.traceparent,
        )
        tokens = await prompt_tokens(said.prompt) if said.prompt else 0
        rules, headers = emulation.call_rules, emulation.headers(self._dialect.field)
        kept_bytes += form.memory + (rules.memory if rules else 0)
        sealed = seal_job(self._seal, job, caller, form.model, kept_bytes)
        kept = PreparedChat(caller, form, answer, tokens, scheduling, rules, headers)
        render = partial(self._rendering, request, kept)
        return PreparedRequest(sealed, scheduling, form.stream, render)

    async def _offload(
        self, messages: bytes, files: Mapping[str, Attachment], resources: Resources
    ) -> Offloaded | None:
        """Put encoded messages in the store; None if there are none."""
        if not messages:
            return None
        file_bytes = sum(file.size for file in files.values() if file.blob_key)
        return await self._attachments.offload(messages, file_bytes, resources)

    def _rendering(self, request: Request, chat: PreparedChat, id: str) -> ChatRendering:
        form, rules = chat.form, chat.call_rules
        options = replace(
            rendering_options(request, chat.scheduling, id, self._config.stream),
            include_usage=form.include_usage,
            legacy_calls=rules is not None and rules.legacy,
            stores_items=self._items.are_stored,
            prompt_tokens=chat.prompt_tokens,
        )
        reader = AnswerReader(
            chat.caller.bot(self._config.bot), form.stops, form.token_limit, rules
        )
        answer = chat.answer(id, form.model, accepted_at(id), reader, options)
        links = MediaLinks(request, self._config.server)
        return ChatRendering(self._dialect, chat, answer, links, self._items)


class ChatRendering:
    """An answer with the links to its images and files, and with its usage. It stores its items."""

    def __init__(
        self,
        dialect: Dialect,
        chat: PreparedChat,
        answer: Answer,
        links: MediaLinks,
        items: Items,
    ) -> None:
        self._dialect = dialect
        self._chat = chat
        self._answer = answer
        self._links = links
        self._items = items

    @property
    def is_complete(self) -> bool:
        """True once the answer has ended well."""
        return self._answer.finish is not None

    @property
    def failure(self) -> ApiError | None:
        """The reason for which the answer has failed, with fields named as the dialect does."""
        failure = self._answer.failure
        return self._dialect.renamed(failure) if failure else None

    @property
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""
        return self._answer.begun

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer; a warning is known at its end."""
        warning = self._answer.warning
        return self._chat.headers | ({FORMAT_WARNING: warning.code} if warning else {})

    async def add(self, events: list[Event]) -> bytes:
        """Add events, and store the items that end with them."""
        rendered = self._answer.add(self._links.add_to(events))
        await self._items.store(self._chat.caller.identity, self._answer.ended_items())
        return rendered

    def comment(self, place: QueuePlace | None) -> bytes:
        """Render an SSE comment as a keep-alive; `place` while the job is waiting."""
        return self._answer.comment(place)

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a keep-alive in the dialect's own form; `place` while the job is waiting."""
        return self._answer.empty_delta(place)

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream."""
        return self._answer.error(failure)

    async def ending(self) -> bytes:
        """Render the end of a stream."""
        return self._answer.ending(await self._usage() if self._chat.form.include_usage else None)

    async def whole(self) -> bytes:
        """Render the whole answer, as the body of a response."""
        return self._answer.whole(await self._usage())

    async def _usage(self) -> Usage:
        return await usage(self._chat.prompt_tokens, self._answer.text)


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
