"""Files of a client's messages, uploaded to the upstream before the question is asked.

Three steps (upstream-protocol.md, 1.7): a file is announced to the upstream, which returns an
address; its bytes go there as they come out of our store; the upload is reported complete. A
document is then polled until the upstream has read it; only then is its length in tokens known.

A file that was uploaded for an account before is used again, if the upstream still has it. A `GET`
finds that out; reporting the upload complete would not, since that works only once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote

import msgspec

import settings
from store.blobs import Blobs
from store.objects import StoreError
from wire.events import Failed, Fault
from wire.jobs import Attachment, ChatJob, Identity
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.files.downloads import by_file_server
from workers.pandora.files.uploaded import Uploaded, UploadedFiles
from workers.pandora.files.use_cases import UseCase, upload_name, use_case
from workers.pandora.json_decoding import decode_json
from workers.pandora.refusals import error_of
from workers.pandora.translate.error_body import shorten
from workers.upstream import UpstreamBusy, UpstreamError

TIMEOUT = 20.0
"""Seconds for the upstream to answer each small step."""

FIRST_POLL, LONGEST_POLL = 0.3, 3.0
"""Seconds between two polls of a document: at first, doubling, and at most."""

_REFUSED = "The upstream did not accept a file."
_LOST = "The upstream did not accept a file as expected."
_BROKEN_OFF = "The connection broke while a file was uploaded."
_FILE_LOST = "A file was lost inside the gateway before it was uploaded."

logger = logging.getLogger(__name__)


class _Announcement(msgspec.Struct, frozen=True):
    file_name: str
    file_size: int
    use_case: UseCase


class _Empty(msgspec.Struct, frozen=True):
    pass


class _FileState(msgspec.Struct, frozen=True):
    """The upstream's answer about a file, at any step. Null and left out are alike.

    An error may come with the status 200.
    """

    status: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    file_id: str | None = None
    upload_url: str | None = None
    state: str | None = None
    retrieval_index_status: str | None = None
    file_size_tokens: int | None = None

    @property
    def is_ready(self) -> bool:
        """True if the file is there, to be used."""
        return self.status != "error" and self.state in (None, "ready")


class Uploads:
    """Uploads the files of jobs."""

    def __init__(
        self, backend: Backend, blobs: Blobs, known: UploadedFiles, config: settings.Settings
    ) -> None:
        self._backend = backend
        self._blobs = blobs
        self._known = known
        self._timeout = config.files.upload_timeout
        self._rules = config.media

    async def upload(self, job: ChatJob) -> dict[Identity, Uploaded]:
        """Upload the files of a job, each once, until they can be asked about.

        Raises:
            UpstreamBusy: the account is in the middle of another answer.
            UpstreamError: a file is refused, or cannot be uploaded in time.
        """
        uploaded: dict[Identity, Uploaded] = {}
        try:
            for file in job.attachments:
                if file.identity not in uploaded:
                    uploaded[file.identity] = await self._provide(job.bearer, file)
        except UpstreamError as error:
            reason = error.failed.code or error.failed.fault
            logger.warning(
                "a file could not be uploaded",
                extra={"event": "upload_failed", "job": job.id, "reason": reason},
            )
            raise
        return uploaded

    async def _provide(self, bearer: str, file: Attachment) -> Uploaded:
        """Upload a file, unless the upstream has it, and wait until it is read."""
        uploaded = await self._known.get(bearer, file)
        if uploaded is None or not await self._is_ready(bearer, uploaded):
            uploaded = await self._upload(bearer, file)
            await self._known.put(bearer, file, uploaded)
        if use_case(file.type) == "my_files" and uploaded.tokens is None:
            uploaded = await self._wait_until_read(bearer, uploaded)
            await self._known.put(bearer, file, uploaded)
        return uploaded

    async def _is_ready(self, bearer: str, uploaded: Uploaded) -> bool:
        try:
            return (await self._ask("GET", _path(uploaded.id), bearer)).is_ready
        except (UpstreamError, UpstreamBusy):
            return False  # if something is wrong, uploading the file again finds out

    async def _upload(self, bearer: str, file: Attachment) -> Uploaded:
        """The three steps."""
        case = use_case(file.type)
        media_type = "" if case == "ace_upload" else file.type
        name = upload_name(file)
        place = await self._ask("POST", "/files", bearer, _Announcement(name, file.size, case))
        if place.status == "error":
            raise _failed("bad_file", place.error_message or _REFUSED, place.error_code)
        if not place.file_id or not place.upload_url:
            raise _failed("upstream_error", _LOST, "upload_nowhere")
        await self._send(by_file_server(place.upload_url, self._rules), file, media_type)
        done = await self._ask("POST", f"{_path(place.file_id)}/uploaded", bearer, _Empty())
        if done.status == "error":
            raise _failed("upstream_error", done.error_message or _LOST, done.error_code)
        return Uploaded(place.file_id, name, media_type, file.size, file.width, file.height)

    async def _wait_until_read(self, bearer: str, document: Uploaded) -> Uploaded:
        """Poll a document until the upstream has read it; return it with its length."""
        pause = FIRST_POLL
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    state = await self._ask("GET", _path(document.id), bearer)
                    if state.retrieval_index_status in (None, "success"):
                        return msgspec.structs.replace(document, tokens=state.file_size_tokens)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_POLL)
        except TimeoutError:
            message = "The upstream did not read a document in time."
            raise _failed("upstream_timeout", message, "file_not_read") from None

    async def _send(self, url: str, file: Attachment, media_type: str) -> None:
        """The second step: the bytes, as they come out of the store."""
        lost: list[StoreError] = []

        async def chunks() -> AsyncGenerator[bytes, None]:
            # An exception raised here comes out of aiohttp as an error of the connection.
            try:
                async with aclosing(self._blobs.read(file)) as content:
                    async for chunk in content:
                        yield chunk
            except StoreError as error:
                lost.append(error)
                raise

        headers = {
            "Content-Type": media_type,
            "Content-Length": str(file.size),  # the server refuses chunked transfers
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": "2020-04-08",
        }
        try:
            status = await self._backend.put(url, chunks(), headers, self._timeout)
        except (UnreachableError, StoreError) as error:
            if isinstance(error, UnreachableError) and error.timed_out:
                message = "The upstream did not accept a file in time."
                raise _failed("upstream_timeout", message, "upload_timeout") from None
            if isinstance(error, UnreachableError) and error.forbidden:
                raise _failed("upstream_error", _LOST, "upload_address_not_public") from None
            if lost:
                raise _failed("gateway_error", _FILE_LOST, "file_lost") from None
            raise _failed("upstream_down", _BROKEN_OFF, "upload_broken_off") from None
        if status == 413:
            raise _failed("bad_file", _REFUSED, "file_too_large")
        if status not in (200, 201):
            raise _failed("upstream_error", _LOST, f"upload_http_{status}", passing=status >= 500)

    async def _ask(
        self, method: str, path: str, bearer: str, body: msgspec.Struct | None = None
    ) -> _FileState:
        """One of the small steps.

        Raises:
            UpstreamBusy: the account is in the middle of another answer.
            UpstreamError: the response is anything but the state of a file with the status 200.
        """
        try:
            response = await self._backend.call(method, path, bearer, json=body, timeout=TIMEOUT)
        except UnreachableError as error:
            if error.timed_out:
                message = "The upstream did not answer about a file in time."
                raise _failed("upstream_timeout", message, "upload_timeout") from None
            raise
        if response.status == 200:
            state = decode_json(response.body, _FileState)
            if state is None:
                raise _failed("upstream_error", _LOST, "upload_unreadable")
            return state
        refusal = response.refusal()
        # In an answer to a question these are about our request; here they are about the file.
        if response.status in (400, 413, 415) and isinstance(refusal, UpstreamError):
            raise _failed("bad_file", refusal.failed.message, refusal.failed.code)
        raise refusal


def _path(file_id: str) -> str:
    return f"/files/{quote(file_id, safe='')}"


def _failed(
    fault: Fault, message: str, code: str | None, *, passing: bool = False
) -> UpstreamError:
    failed = Failed(fault, shorten(message), code[:100] if code else None)
    return error_of(failed, passing=passing)
