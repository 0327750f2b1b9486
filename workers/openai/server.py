"""An OpenAI-compatible server as an `Upstream`: one answer for each job, and its survey."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

import aiohttp
import msgspec

import settings
from runtime.large import work_on
from settings.upstream_credential import open_credential
from wire.events import Event, Failed, Piece
from wire.jobs import RelayedJob
from workers.accounts import PoolAccounts
from workers.http.body import PIECE, HttpBody
from workers.http.session import open_session
from workers.http.unreachable import UnreachableError
from workers.openai.answer import TOO_LARGE, Answer
from workers.openai.connection import KEEPALIVE, Connection, read_error_body, trace_reuse
from workers.openai.dialects import dialect_of
from workers.openai.error_object import read_error
from workers.openai.inputs import each_input, join_embeddings
from workers.openai.judgement import Refusal, judge
from workers.openai.pause import read_pause, read_used_up
from workers.openai.request import Request, prepare
from workers.openai.survey import Survey, survey_server
from workers.openai.whole_answer import MAX_WHOLE, read_whole
from workers.upstream import UpstreamBusy, UpstreamError

_LARGE, _LARGE_MESSAGE = 1024 * 1024, 64 * 1024
"""Bytes of a whole body, and of a message, that are read in a thread: the event loop goes on."""

_MOST_ASKED = 10
"""Accounts that are tried at once for a survey, until the server accepts one."""

_TAIL_TIMEOUT = 5.0
"""Seconds that the usage and the end of an answer may come after its finish."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_openai(
    name: str, config: settings.Upstream, accounts: PoolAccounts | None = None
) -> AsyncIterator[OpenAiServer]:
    """Open a server with the connections to it. `name` is that of the upstream.

    Raises:
        SettingsError: its credential cannot be read.
    """
    async with open_session(config.proxy, keepalive=KEEPALIVE, traces=[trace_reuse()]) as session:
        credential = accounts.asking if accounts else open_credential(name, config)
        base_url = config.require_base_url()
        connection = Connection(session, base_url, credential, config.connect_timeout)
        yield OpenAiServer(name, config, connection, accounts)


class OpenAiServer:
    """An `Upstream` for relayed jobs. `anomalies` counts harmless oddities by name.

    `accounts` are those of the operator, if there are any: each job brings the token of one.
    """

    def __init__(
        self,
        name: str,
        config: settings.Upstream,
        connection: Connection,
        accounts: PoolAccounts | None = None,
    ) -> None:
        self.anomalies: Counter[str] = Counter()
        self._accounts = accounts
        self._table = settings.table_of(name)
        self._config = config
        self._connection = connection
        self._models = config.models
        self._surveyed: Survey | None = None

    async def answer(self, job: RelayedJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `Upstream.answer`."""
        request = await self._prepare(job)
        if not request.streamed:
            async with aclosing(self._answer_whole(job, request)) as batches:
                async for events in batches:
                    yield events
            return
        async with self._posted(job, request) as body:
            dialect = dialect_of(job.path, job.choices)
            secrets, used_up = self._connection.secrets(job.bearer), read_used_up(body.headers)
            answer = Answer(dialect, request.model, secrets, used_up)
            tail = _Tail(body)
            while not answer.over:
                data = await (tail.read() if answer.finished else body.read())
                if answer.load(data) <= _LARGE_MESSAGE:
                    found = answer.feed(data)
                else:
                    found = await asyncio.to_thread(answer.feed, data)
                if answer.unfinished:
                    self._note_unfinished(job)
                if found is not None:
                    yield found
                if len(data) >= PIECE:
                    await asyncio.sleep(0)  # more has arrived: others have their turn before that
            if answer.failure is not None:
                raise answer.failure
            await body.finish()

    async def survey(self) -> Survey:
        """Ask the server for its models and slots."""
        survey = await survey_server(self._connection, self._config, self._surveyed)
        for _ in range(min(self._accounts.number, _MOST_ASKED) - 1 if self._accounts else 0):
            if self._accounts is None or not survey.trouble:
                break
            self._accounts.ask_with_next()
            survey = await survey_server(self._connection, self._config, self._surveyed)
        self._models = survey.models
        if survey != self._surveyed:
            self._surveyed = survey
            self._log(survey)
        return survey

    def _log(self, survey: Survey) -> None:
        found = {"models": len(survey.models), "slots": survey.slots}
        if not survey.is_known and not survey.trouble:
            logger.warning(
                "the server of %s cannot be asked for its models yet; it is asked again soon",
                self._table,
                extra={
                    "event": "upstream_unlisted",
                    "reason": survey.silence,
                    "address": self._connection.addresses.host,
                },
            )
            return
        if survey.left_out:
            logger.warning(
                "%s lists more models and aliases than a gateway offers: %d names are left out; set"
                " %s.models to choose",
                self._table,
                survey.left_out,
                self._table,
                extra={"event": "models_left_out", "left_out": survey.left_out},
            )
        logger.info(
            "%s offers %s models and answers %d requests at once",
            self._table,
            len(survey.models) or "any",
            survey.slots,
            extra={"event": "upstream_surveyed", **found},
        )
        if not survey.slots_known:
            logger.warning(
                "the server does not say how many requests it answers at once: %d are assumed, set"
                " %s.max_concurrency to change that",
                survey.slots,
                self._table,
                extra={"event": "slots_assumed", "slots": survey.slots},
            )
        if survey.trouble:
            self._log_refused_us()

    def _log_refused_us(self) -> None:
        logger.error(
            "the upstream refuses the gateway's own credentials: check %s.credential or .accounts",
            self._table,
            extra={"event": "upstream_refused_us"},
        )

    async def _prepare(self, job: RelayedJob) -> Request:
        model = self._models.get(job.model, job.model)
        passes = self._config.pass_service_tier
        call = partial(prepare, job.path, job.body, model, pass_service_tier=passes, tier=job.tier)
        try:
            return call() if len(job.body) <= _LARGE else await asyncio.to_thread(call)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = "The request body is not a JSON object. Send one."
            raise UpstreamError(Failed("bad_request", message, status=400)) from None

    @asynccontextmanager
    async def _posted(self, job: RelayedJob, request: Request) -> AsyncIterator[HttpBody]:
        """The body of the answer to a request. An unread rest of it ends it at the server."""
        try:
            response = await self._connection.post(job.path, request, job.bearer)
        except UnreachableError as error:
            logger.warning(
                "the upstream could not be reached (%s.base_url)",
                self._table,
                extra={
                    "event": "upstream_unreachable",
                    "job": job.id,
                    "reason": error.detail,
                    "address": self._connection.addresses.host,
                },
            )
            raise
        body = HttpBody(response, job.id)
        try:
            if response.status // 100 != 2:
                raise await self._refusal(job, response)
            yield body
        finally:
            await body.close()

    async def _refusal(self, job: RelayedJob, response: aiohttp.ClientResponse) -> Refusal:
        secrets = self._connection.secrets(job.bearer)
        error = read_error(await read_error_body(response)).without(secrets)
        refusal = judge(response.status, error, read_pause(response.headers), job.path)
        logger.info(
            "the upstream refused a request",
            extra={"event": "upstream_refused", "job": job.id, "status": response.status},
        )
        if isinstance(refusal, UpstreamBusy) and refusal.refused_us and not job.bearer:
            self._log_refused_us()
        return refusal

    async def _answer_whole(
        self, job: RelayedJob, request: Request
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Answer a request that is not streamed. Yields a sign of life after each of its parts."""
        parts: Iterator[Request] = iter(())
        if job.path == "embeddings" and self._surveyed and self._surveyed.is_llama_cpp:
            parts = await work_on(len(request.body), partial(each_input, request))
        answers: list[bytes] = []
        left = MAX_WHOLE
        for part in parts:
            events = await self._read_whole(job, part, left)
            answers += (event.data for event in events if isinstance(event, Piece))
            left -= len(answers[-1])
            yield []
        if answers:
            whole = await work_on(MAX_WHOLE - left, partial(join_embeddings, answers))
            yield await work_on(len(whole), partial(read_whole, whole, request.model))
        else:
            yield await self._read_whole(job, request, left)

    async def _read_whole(self, job: RelayedJob, request: Request, most: int) -> list[Event]:
        """Send a request and return its answer, of at most that many bytes."""
        content = bytearray()
        async with self._posted(job, request) as body:
            while data := await body.read():
                content += data
                if len(content) > most:
                    raise UpstreamError(TOO_LARGE)
        secrets, used_up = self._connection.secrets(job.bearer), read_used_up(body.headers)
        arguments = bytes(content), request.model, secrets, used_up
        return await work_on(len(content), partial(read_whole, *arguments))

    def _note_unfinished(self, job: RelayedJob) -> None:
        self.anomalies["unfinished"] += 1
        logger.warning(
            "the upstream ended an answer without a finish reason",
            extra={"event": "upstream_odd_answer", "job": job.id, "path": job.path},
        )


class _Tail:
    """The rest of an answer that is whole, as far as it comes in time."""

    def __init__(self, body: HttpBody) -> None:
        self._body = body
        self._ends_at = 0.0

    async def read(self) -> bytes:
        """Return the next bytes; b"" at the end, or when the time is up."""
        clock = asyncio.get_running_loop().time
        self._ends_at = self._ends_at or clock() + _TAIL_TIMEOUT
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await self._body.read()
        except TimeoutError:
            return b""
