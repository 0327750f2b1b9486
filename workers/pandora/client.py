"""The rim: one HTTP request to Pandora-Next for each answer, all thinking done elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar

import aiohttp

import settings
from store.media import Media
from wire.events import Asked, Break, Delta, Ending, Event, Failed
from wire.jobs import ChatJob, Identity
from workers.pandora.arkose import ArkoseServers
from workers.pandora.body import Body, HttpBody, read_short
from workers.pandora.deletions import Deletions, Trace
from workers.pandora.files.downloads import Downloads
from workers.pandora.files.uploads import Uploaded, Uploads
from workers.pandora.gpts import Gizmo, Gpts
from workers.pandora.payload import (
    encode_confirmation,
    encode_payload,
    upstream_model,
    wants_arkose,
)
from workers.pandora.refusals import error_of, judge
from workers.pandora.translate.exchange import Exchange, Granted, ending_of
from workers.pandora.translate.placeholders import (
    Confirm,
    ConfirmationWanted,
    FileWanted,
    ImageWanted,
    Wanted,
)
from workers.pandora.translate.turn import Translator
from workers.pandora.websocket.handover import read_handover
from workers.pandora.websocket.pool import Sockets
from workers.upstream import UpstreamBusy, UpstreamError

T = TypeVar("T")

Transport = Literal["auto", "sse", "websocket"]

_REFUSAL_TIMEOUT = 5.0
"""Seconds for the body of an error: enough to read why, not enough to hide it behind a timeout."""

_SIGN_OF_LIFE = 0.5
"""Seconds between two while something is fetched, during which the upstream itself is not heard."""

_REFUSAL_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


def backend(base_url: str, api_prefix: str = "") -> str:
    """The upstream's URL up to `/backend-api`."""
    prefix = api_prefix.strip("/")
    return base_url.rstrip("/") + (f"/{prefix}" if prefix else "") + "/backend-api"


class Pandora:
    """An `Upstream` that speaks to a Pandora-Next server in proxy mode.

    Its answers come over the POST's own response or over a WebSocket, which the answers of an
    account share; `transport` decides as `upstream.transport` says. To be closed by `aclose`.
    `oddities` counts what was survived but should not happen, by name.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        api_prefix: str = "",
        connect_timeout: float = 10.0,
        transport: Transport = "auto",
        *,
        media: Media,
        rules: settings.Media,
        arkose: ArkoseServers | None = None,
        deletions: Deletions | None = None,
        keep_history: bool = True,
        gpts: Gpts | None = None,
        uploads: Uploads | None = None,
        confirm_actions: Confirm = "no",
    ) -> None:
        root = backend(base_url, api_prefix)
        self.oddities: Counter[str] = Counter()
        self._session = session
        self._arkose = arkose
        self._deletions = deletions
        self._keep_history = keep_history
        self._gpts = gpts
        self._uploads = uploads
        self._confirm_actions = confirm_actions
        self._url = f"{root}/conversation"
        self._downloads = Downloads(session, root, media, rules)
        self._sockets = Sockets(session, root, connect_timeout)
        self._transport = transport
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout, sock_connect=connect_timeout, sock_read=None
        )

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `Upstream.answer`. Read on to the end after `Done`: that keeps the connection."""
        uploaded: dict[Identity, Uploaded] = {}
        if job.attachments:
            with _working(self._upload(job)) as uploading:
                async for nothing in _signs_of_life(uploading):
                    yield nothing
                uploaded = uploading.result()
        gizmo = await self._gizmo(job)
        question = partial(self._question, job, uploaded, gizmo)
        exchange = Exchange(upstream_model(job.family), self._confirm_actions)
        heard = exchange.translator
        ending: Ending | None = None
        trace = self._deletions.trace(job.bearer) if self._deletions else None
        body: Body | None = None
        try:
            body = await self._begin(job, question, trace)
            while ending is None:
                said, alive = exchange.hear(await body.read())
                if trace is not None:
                    await trace.note(heard.conversation_id)
                events: list[Event] = []
                for one in said:
                    # The first test is for speed: it settles nearly all, at a tenth of the cost.
                    if isinstance(one, Delta) or not isinstance(one, Wanted):
                        events.append(one)
                    elif exchange.grant(one):
                        events.append(Break())
                    else:
                        yield events
                        with _working(self._get(job, heard.conversation_id, one)) as getting:
                            async for nothing in _signs_of_life(getting):
                                yield nothing
                            events = [getting.result()]
                if granted := exchange.unanswered(events):
                    yield events[:-1]
                    await body.finish()
                    await body.close()
                    confirm = partial(self._confirm, job, heard.conversation_id, granted, gizmo)
                    body = await self._go_on(job, confirm, trace)
                    exchange.go_on()
                    continue
                ending = ending_of(events)
                if ending is not None:
                    self._count(job, heard)
                if isinstance(ending, Failed):
                    if len(events) > 1:
                        yield events[:-1]
                    raise error_of(ending)
                if events or alive:
                    yield events
            await body.finish()
        finally:
            if trace is not None:
                trace.end()
            if body is not None:
                await body.close()

    async def aclose(self) -> None:
        """Close what is shared by answers; the session stays open."""
        await self._sockets.aclose()

    async def _begin(
        self, job: ChatJob, encode: Callable[[str | None], bytes], trace: Trace | None
    ) -> Body:
        """Ask, and find out which way the answer comes."""
        with self._sockets.expecting(job.bearer):
            if self._transport != "sse":
                always = self._transport == "websocket"
                await self._sockets.prepare(job.bearer, always=always)
            response = await self._post(job, encode)
            if response.status == 200 and response.content_type == "text/event-stream":
                return HttpBody(response)
            try:
                said = await read_short(response, _REFUSAL_BYTES, _REFUSAL_TIMEOUT)
            finally:
                response.close()
            handover = read_handover(said) if response.status == 200 else None
            if handover is not None and trace is not None:
                await trace.note(handover.conversation_id)
            if handover is not None and self._transport != "sse":
                return await self._sockets.receive(job.bearer, handover)
            if handover is not None:
                await self._sockets.stop(job.bearer, handover)
            _log.info(
                "job %s: the upstream answered %d",
                job.id,
                response.status,
                extra={"event": "upstream_refused", "job": job.id, "status": response.status},
            )
            retry_after = response.headers.get("Retry-After")
            raise judge(response.status, response.content_type, said, retry_after)

    async def _go_on(
        self, job: ChatJob, encode: Callable[[str | None], bytes], trace: Trace | None
    ) -> Body:
        """The same in the middle of an answer, which cannot wait and be tried again."""
        try:
            return await self._begin(job, encode, trace)
        except UpstreamBusy:
            message = "The upstream was too busy to go on after an action was allowed."
            raise UpstreamError(Failed("rate_limited", message, "upstream_busy")) from None

    async def _get(self, job: ChatJob, conversation_id: str, wanted: Wanted) -> Event:
        """What stands in the place of something wanted. `downloads` sets the deadlines."""
        match wanted:
            case ImageWanted():
                return await self._downloads.image(job, wanted)
            case FileWanted():
                return await self._downloads.file(job, conversation_id, wanted)
            case ConfirmationWanted(domain=domain, operation=operation):
                return Asked(domain, operation)

    async def _upload(self, job: ChatJob) -> dict[Identity, Uploaded]:
        """The files of a job, brought to the upstream."""
        if self._uploads is None:
            raise UpstreamError(Failed("gateway_error", "This worker takes no files.", "no_files"))
        return await self._uploads.all(job)

    async def _gizmo(self, job: ChatJob) -> Gizmo | None:
        """The GPT that a job is for."""
        if not job.gpt:
            return None
        if self._gpts is None:
            raise UpstreamError(Failed("gateway_error", "This worker knows no GPTs.", "no_gpts"))
        return await self._gpts.find(job.gpt, job.bearer)

    def _question(
        self,
        job: ChatJob,
        uploaded: Mapping[Identity, Uploaded],
        gizmo: Gizmo | None,
        arkose_token: str | None,
    ) -> bytes:
        return encode_payload(
            job,
            uploaded=uploaded,
            arkose_token=arkose_token,
            keep_history=self._keep_history,
            gizmo=gizmo,
        )

    def _confirm(
        self,
        job: ChatJob,
        conversation_id: str,
        granted: Granted,
        gizmo: Gizmo | None,
        arkose_token: str | None,
    ) -> bytes:
        return encode_confirmation(
            job,
            conversation_id,
            *granted,
            arkose_token=arkose_token,
            keep_history=self._keep_history,
            gizmo=gizmo,
        )

    async def _post(
        self, job: ChatJob, encode: Callable[[str | None], bytes]
    ) -> aiohttp.ClientResponse:
        headers = {
            "Authorization": f"Bearer {job.bearer}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressor in between would hold tokens back
        }
        token = None
        if self._arkose is not None and wants_arkose(job.family):
            token = headers["Openai-Sentinel-Arkose-Token"] = await self._arkose.token()
        try:
            return await self._session.post(
                self._url,
                data=encode(token),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Its name and the system's own words are all that is told: the repr of some of these
            # quotes the request's headers.
            reason = type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                reason += f" ({error.strerror})"
        _log.warning(
            "The upstream could not be reached (upstream.base_url): %s",
            reason,
            extra={"event": "upstream_unreachable", "job": job.id, "reason": reason},
        )
        raise error_of(
            Failed("upstream_down", "The upstream could not be reached.", "upstream_unreachable")
        )

    def _count(self, job: ChatJob, translator: Translator) -> None:
        seen = {
            "unknown": translator.unknown,
            "unfinished": int(translator.unfinished),
            "rewritten": int(translator.rewritten),
        }
        self.oddities.update({name: count for name, count in seen.items() if count})
        if translator.unfinished or translator.rewritten:
            _log.warning(
                "The upstream ended an answer oddly",
                extra={"event": "upstream_odd_answer", "job": job.id, **seen},
            )


@contextmanager
def _working(work: Coroutine[object, object, T]) -> Iterator[asyncio.Task[T]]:
    """Something that is done beside; it ends with the context."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()


async def _signs_of_life(task: asyncio.Task[T]) -> AsyncGenerator[Sequence[Event], None]:
    """No events, now and then, until a task is done."""
    while not (await asyncio.wait([task], timeout=_SIGN_OF_LIFE))[0]:
        yield []
