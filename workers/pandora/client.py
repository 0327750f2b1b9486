"""The rim: one HTTP request to Pandora-Next for each answer, all thinking done elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence

import aiohttp

import settings
from wire.events import Asked, Delta, Done, Ending, Event, Failed
from wire.jobs import ChatJob
from wire.media import Media
from workers.pandora.downloads import Downloads
from workers.pandora.payload import encode_payload, upstream_model
from workers.pandora.records import Mark, read_record
from workers.pandora.refusals import judge
from workers.pandora.speech import Said
from workers.pandora.sse import MAX_EVENT_BYTES, EventParser, EventTooLargeError
from workers.pandora.translation import Translator
from workers.pandora.wanted import ConfirmationWanted, FileWanted, ImageWanted, Wanted
from workers.upstream import UpstreamBusy, UpstreamError

_TAIL_TIMEOUT = 0.5
"""Seconds that the end of a body may lag behind `[DONE]` for its connection to be kept."""

_REFUSAL_TIMEOUT = 5.0
"""Seconds for the body of an error: enough to read why, not enough to hide it behind a timeout."""

_SIGN_OF_LIFE = 0.5
"""Seconds between two while something is fetched, during which the upstream itself is not heard."""

_REFUSAL_BYTES = 64 * 1024

_TOO_LARGE = Failed("upstream_error", "The upstream sent an event too large to read.")

_log = logging.getLogger(__name__)


class Pandora:
    """An `Upstream` that speaks to a Pandora-Next server in proxy mode.

    `oddities` counts what was survived but should not happen, by name.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        api_prefix: str = "",
        connect_timeout: float = 10.0,
        *,
        media: Media,
        rules: settings.Media,
    ) -> None:
        prefix = api_prefix.strip("/")
        root = base_url.rstrip("/") + (f"/{prefix}" if prefix else "")
        self.oddities: Counter[str] = Counter()
        self._session = session
        self._url = f"{root}/backend-api/conversation"
        self._downloads = Downloads(session, f"{root}/backend-api", media, rules)
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout, sock_connect=connect_timeout, sock_read=None
        )

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `Upstream.answer`. Read on to the end after `Done`: that keeps the connection."""
        response = await self._post(job)
        try:
            if response.status != 200 or response.content_type != "text/event-stream":
                raise await _refusal(response)
            parser = EventParser(MAX_EVENT_BYTES)
            translator = Translator(upstream_model(job.family))
            ending: Ending | None = None
            while ending is None:
                said: list[Said] = []
                alive = False
                data = await _read(response)
                try:
                    for event in parser.feed(data):
                        record = read_record(event)
                        alive = alive or record is not Mark.PING
                        said += translator.feed(record)
                except EventTooLargeError:
                    said = translator.fail(_TOO_LARGE)
                if not data:
                    said = translator.end_of_stream()
                events: list[Event] = []
                for one in said:
                    # The first test is for speed: it settles nearly all, at a tenth of the cost.
                    if isinstance(one, Delta) or not isinstance(one, Wanted):
                        events.append(one)
                        continue
                    yield events
                    getting = asyncio.create_task(self._get(job, translator.conversation_id, one))
                    try:
                        while not (await asyncio.wait([getting], timeout=_SIGN_OF_LIFE))[0]:
                            yield []
                        events = [getting.result()]
                    finally:
                        getting.cancel()
                if events and isinstance(last := events[-1], Done | Failed):
                    ending = last
                    self._count(job, translator)
                if isinstance(ending, Failed):
                    if len(events) > 1:
                        yield events[:-1]
                    raise UpstreamError(ending)
                if events or alive:
                    yield events
            await _read_tail(response)
        finally:
            # Closes the connection, unless the body was read to its end: then aiohttp has already
            # taken the connection back.
            response.close()

    async def _get(self, job: ChatJob, conversation_id: str, wanted: Wanted) -> Event:
        """What stands in the place of something wanted. `downloads` sets the deadlines."""
        match wanted:
            case ImageWanted():
                return await self._downloads.image(job, wanted)
            case FileWanted():
                return await self._downloads.file(job, conversation_id, wanted)
            case ConfirmationWanted(domain=domain, operation=operation):
                return Asked(domain, operation)

    async def _post(self, job: ChatJob) -> aiohttp.ClientResponse:
        headers = {
            "Authorization": f"Bearer {job.bearer}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressor in between would hold tokens back
        }
        try:
            return await self._session.post(
                self._url,
                data=encode_payload(job),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Its name is all that is passed on: the text names the upstream's address, and the
            # repr of some of these quotes the request's headers. Hence also `from None`.
            reason = type(error).__name__
        _log.warning(
            "The upstream could not be reached: %s",
            reason,
            extra={"event": "upstream_unreachable", "job": job.id, "reason": reason},
        )
        raise UpstreamError(
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


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of the body; b"" when it has ended, whole or broken off."""
    content = response.content
    try:
        return await content.readany()
    except (aiohttp.ClientError, OSError):
        # A broken connection makes `readany` forget what had arrived before, which may well be the
        # whole answer. No public call reads it.
        return content._read_nowait(-1)


async def _read_tail(response: aiohttp.ClientResponse) -> None:
    """Reads what follows `[DONE]`, normally nothing but the end of the body."""
    try:
        async with asyncio.timeout(_TAIL_TIMEOUT):
            while await _read(response):
                pass
    except TimeoutError:
        pass


async def _refusal(response: aiohttp.ClientResponse) -> UpstreamBusy | UpstreamError:
    body = bytearray()
    try:
        async with asyncio.timeout(_REFUSAL_TIMEOUT):
            while len(body) < _REFUSAL_BYTES and (data := await _read(response)):
                body += data
    except TimeoutError:
        pass  # judged by its status and by what has come of its body
    return judge(
        response.status, response.content_type, bytes(body), response.headers.get("Retry-After")
    )
