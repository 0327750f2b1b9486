"""Files of a client's messages, uploaded to the upstream before the question is asked.

Three steps (upstream-protocol.md, 1.7): the upstream is told of a file and gives an address, the
bytes go there as they come out of our store, and the upstream is told that they are there. A
document is then asked after until it has been read; only then its length in tokens is known.

What was uploaded for an account before is used again, if the upstream still has it, which one `GET`
tells; telling that the bytes are there works only once, so that is no way to find out.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Literal
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

import settings
from store.blobs import Blobs
from store.media import MediaError
from wire.events import Failed, Fault
from wire.jobs import Attachment, ChatJob, Identity
from wire.redis.outage import REDIS_ERRORS
from wire.seal import SealError
from workers.pandora.body import read_short
from workers.pandora.files.downloads import by_file_server
from workers.pandora.files.uploaded import UploadedFiles
from workers.pandora.refusals import error_of, judge
from workers.pandora.translate.error_body import shorten
from workers.upstream import UpstreamBusy, UpstreamError

TIMEOUT = 20.0
"""Seconds that the upstream has for each small step."""

FIRST_POLL, LONGEST_POLL = 0.3, 3.0
"""Seconds before a document is asked after again; each time twice as long."""

_MAX_BYTES = 64 * 1024

UseCase = Literal["multimodal", "my_files", "ace_upload"]

_PICTURES = {
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/png": ".png",
    "image/gif": ".gif",
}
"""What the model looks at, and how such a file's name ends."""

_DOCUMENTS = {
    "text/x-php": ".php",
    "application/msword": ".doc",
    "text/x-c": ".c",
    "text/html": ".html",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/json": ".json",
    "text/javascript": ".js",
    "application/pdf": ".pdf",
    "text/x-java": ".java",
    "text/x-tex": ".tex",
    "text/x-typescript": ".ts",
    "text/x-sh": ".sh",
    "text/x-csharp": ".cs",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "text/x-c++": ".cpp",
    "application/x-latext": ".latex",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/x-ruby": ".rb",
    "text/x-script.python": ".py",
}
"""What the upstream reads and searches. Everything else is put beside the code interpreter."""

_REFUSED = "The upstream would not take a file."
_LOST = "The upstream did not take a file as it should."
_BROKEN_OFF = "The connection broke while a file was uploaded."
_OURS = "A file was lost inside the gateway before it was uploaded."

_log = logging.getLogger(__name__)


class Uploaded(msgspec.Struct, frozen=True):
    """A file as the upstream knows it. `type` is "" for what it does not read itself.

    A picture has a width and a height, a document the number of its tokens, if that is known.
    """

    id: str
    name: str
    type: str
    size: int
    width: int = 0
    height: int = 0
    tokens: int | None = None

    @property
    def is_picture(self) -> bool:
        """Whether the model looks at it, as against reading it."""
        return self.type in _PICTURES


class _Asked(msgspec.Struct, frozen=True):
    file_name: str
    file_size: int
    use_case: UseCase


class _Nothing(msgspec.Struct, frozen=True):
    pass


class _Answer(msgspec.Struct, frozen=True):
    """What the upstream tells of a file, at any step. Null and left out are alike.

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
        """Whether the file is there, to be used."""
        return self.status != "error" and self.state in (None, "ready")


def use_case(kind: str) -> UseCase:
    """What the upstream does with files of a media type."""
    if kind in _PICTURES:
        return "multimodal"
    return "my_files" if kind in _DOCUMENTS else "ace_upload"


def name_of(file: Attachment) -> str:
    """A file's name: the client's, or else, as the predecessor had it, its hash."""
    if file.name:
        return file.name
    ends = _PICTURES.get(file.type) or _DOCUMENTS.get(file.type)
    return file.sha256 + (ends or mimetypes.guess_extension(file.type) or "")


class Uploads:
    """Asks under `root`, the upstream's URL up to `/backend-api`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        root: str,
        blobs: Blobs,
        known: UploadedFiles,
        config: settings.Settings,
    ) -> None:
        self._session = session
        self._root = root
        self._blobs = blobs
        self._known = known
        self._timeout = config.files.upload_timeout
        self._rules = config.media

    async def all(self, job: ChatJob) -> dict[Identity, Uploaded]:
        """The files of a job, by what makes them the same, ready to be asked about.

        Raises:
            UpstreamBusy: the account is in the middle of another answer.
            UpstreamError: a file is refused, or cannot be brought there in time.
        """
        uploaded: dict[Identity, Uploaded] = {}
        for file in job.attachments:
            if file.identity not in uploaded:
                uploaded[file.identity] = await self._one(job, file)
        return uploaded

    async def _one(self, job: ChatJob, file: Attachment) -> Uploaded:
        try:
            known = await self._remembered(job.bearer, file)
            if known is None:
                known = await self._upload(job.bearer, file)
                await self._remember(job.bearer, file, known)
            if use_case(file.type) == "my_files" and known.tokens is None:
                known = await self._indexed(job.bearer, known)
                await self._remember(job.bearer, file, known)
            return known
        except UpstreamError as error:
            reason = error.failed.code or error.failed.fault
            _log.warning(
                "A file could not be uploaded: %s",
                reason,
                extra={"event": "upload_failed", "job": job.id, "reason": reason},
            )
            raise

    # What is known already

    async def _remembered(self, bearer: str, file: Attachment) -> Uploaded | None:
        """The file as it was uploaded before, if it was, and is there still."""
        known = None
        with suppress(*REDIS_ERRORS, SealError, msgspec.MsgspecError):
            if box := await self._known.get(bearer, file):
                known = msgspec.json.decode(box, type=Uploaded)
        if known is None:
            return None
        try:
            answer = await self._ask("GET", f"/files/{quote(known.id, safe='')}", bearer)
        except (UpstreamError, UpstreamBusy):
            return None  # uploading it again tells whether something is amiss
        return known if answer.is_ready else None

    async def _remember(self, bearer: str, file: Attachment, known: Uploaded) -> None:
        with suppress(*REDIS_ERRORS):  # else uploaded again next time
            await self._known.put(bearer, file, msgspec.json.encode(known))

    # The steps

    async def _upload(self, bearer: str, file: Attachment) -> Uploaded:
        """Bring a file there."""
        case = use_case(file.type)
        kind = "" if case == "ace_upload" else file.type
        name = name_of(file)
        place = await self._ask("POST", "/files", bearer, _Asked(name, file.size, case))
        if place.status == "error":
            raise _failed("bad_file", place.error_message or _REFUSED, place.error_code)
        if not place.file_id or not place.upload_url:
            raise _failed("upstream_error", _LOST, "upload_nowhere")
        await self._put(by_file_server(place.upload_url, self._rules), file, kind)
        path = f"/files/{quote(place.file_id, safe='')}/uploaded"
        done = await self._ask("POST", path, bearer, _Nothing())
        if done.status == "error":
            raise _failed("upstream_error", done.error_message or _LOST, done.error_code)
        return Uploaded(place.file_id, name, kind, file.size, file.width, file.height)

    async def _indexed(self, bearer: str, known: Uploaded) -> Uploaded:
        """Wait until a document has been read; with its length."""
        path = f"/files/{quote(known.id, safe='')}"
        pause = FIRST_POLL
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    answer = await self._ask("GET", path, bearer)
                    if answer.retrieval_index_status in (None, "success"):
                        return msgspec.structs.replace(known, tokens=answer.file_size_tokens)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_POLL)
        except TimeoutError:
            message = "The upstream did not read a document in time."
            raise _failed("upstream_timeout", message, "file_not_read") from None

    async def _put(self, url: str, file: Attachment, kind: str) -> None:
        """The second step: the bytes, as they come out of the store."""
        lost: list[MediaError] = []

        async def pieces() -> AsyncGenerator[bytes, None]:
            # Whatever is raised here comes out of aiohttp as an error of the connection.
            try:
                async with aclosing(self._blobs.read(file)) as content:
                    async for piece in content:
                        yield piece
            except MediaError as error:
                lost.append(error)
                raise

        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.put(
                    yarl.URL(url, encoded=True),
                    data=pieces(),
                    headers={
                        "Content-Type": kind,
                        "Content-Length": str(file.size),  # the host takes nothing in chunks
                        "x-ms-blob-type": "BlockBlob",
                        "x-ms-version": "2020-04-08",
                    },
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as response,
            ):
                status = response.status
        except TimeoutError:
            message = "The upstream did not take a file in time."
            raise _failed("upstream_timeout", message, "upload_timeout") from None
        except (aiohttp.ClientError, OSError, ValueError, MediaError):
            if lost:
                raise _failed("gateway_error", _OURS, "file_lost") from None
            raise _failed("upstream_down", _BROKEN_OFF, "upload_broken_off") from None
        if status == 413:
            raise _failed("bad_file", _REFUSED, "file_too_large")
        if status not in (200, 201):
            raise _failed("upstream_error", _LOST, f"upload_http_{status}", passing=status >= 500)

    async def _ask(
        self, method: str, path: str, bearer: str, body: msgspec.Struct | None = None
    ) -> _Answer:
        """One of the small steps.

        Raises:
            UpstreamBusy: the account is in the middle of another answer.
            UpstreamError: anything but an answer with the status 200.
        """
        headers = {"Authorization": f"Bearer {bearer}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._session.request(
                    method,
                    yarl.URL(self._root + path, encoded=True),
                    data=None if body is None else msgspec.json.encode(body),
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                said = await read_short(response, _MAX_BYTES, TIMEOUT)
        except TimeoutError:
            message = "The upstream did not answer about a file in time."
            raise _failed("upstream_timeout", message, "upload_timeout") from None
        except (aiohttp.ClientError, OSError, ValueError):
            message = "The upstream could not be reached."
            raise _failed("upstream_down", message, "upstream_unreachable") from None
        if response.status != 200:
            raise _judged(response, said)
        try:
            return msgspec.json.decode(said, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _failed("upstream_error", _LOST, "upload_unreadable") from None


def _judged(response: aiohttp.ClientResponse, said: bytes) -> UpstreamBusy | UpstreamError:
    retry_after = response.headers.get("Retry-After")
    judged = judge(response.status, response.content_type, said, retry_after)
    # About a conversation these would be about what we send; about a file they are about the file.
    if response.status in (400, 413, 415) and isinstance(judged, UpstreamError):
        return _failed("bad_file", judged.failed.message, judged.failed.code)
    return judged


def _failed(
    fault: Fault, message: str, code: str | None, *, passing: bool = False
) -> UpstreamError:
    failed = Failed(fault, shorten(message), code[:100] if code else None)
    return error_of(failed, passing=passing)
