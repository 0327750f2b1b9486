"""Files of a request, received before its job is enqueued: an invalid one is a 400 that names it.

Large files go to the blob store as they arrive, so a front end never holds one as a whole (except
for the body that contains a data URL).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import NamedTuple

import settings
from app.files.data_urls import DataUrlError, InlineFile, is_data_url, read_data_url
from app.files.fetcher import Fetcher, FetchError
from app.files.media_types import HEAD as TYPE_HEAD
from app.files.media_types import media_type
from app.files.own_links import find_own
from app.files.pictures import HEAD, is_heic, may_be_picture, read_picture
from app.http.budget import MemoryBudget, Reservation
from app.openai.errors import BadRequest, LineUnavailable, TooManyLargeRequests
from app.openai.messages import GivenFile
from runtime.large import work_on
from store.blobs import BUFFER, Blobs
from store.media import Media
from store.objects import StoreError
from wire.jobs import Attachment, Offloaded

logger = logging.getLogger(__name__)

_LONGEST_NAME = 120
_HEIC = "HEIC pictures are not supported. Convert the picture to JPEG, PNG, GIF or WebP."
_NO_STORE = "The store for large requests is unavailable."


class _Given(NamedTuple):
    """The bytes of a file, and its name, declared type and name in its URL, each "" if unknown."""

    pieces: AsyncIterator[bytes]
    said: tuple[str, str, str]


class Resources:
    """Memory and blobs of one request; those it still has at the end of its context are freed.

    A class, as are the other contexts of a waiting request: each that is a generator would keep
    almost a kilobyte, and thousands may wait.
    """

    __slots__ = ("_blobs", "blob_keys", "reservation")

    def __init__(self, reservation: Reservation, blobs: Blobs) -> None:
        self.reservation = reservation
        self.blob_keys: list[str] = []
        self._blobs = blobs

    async def __aenter__(self) -> Resources:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.reservation.release()
        await self.discard_blobs()

    async def discard_blobs(self) -> None:
        """Remove the blobs."""
        keys, self.blob_keys = self.blob_keys, []
        if keys:
            await asyncio.shield(self._blobs.remove(keys))


class Attachments:
    """Receives the files of requests. Works only inside its `running` context."""

    def __init__(
        self, config: settings.Files, blobs: Blobs, media: Media, budget: MemoryBudget
    ) -> None:
        self._media = media
        self._config = config
        self._blobs = blobs
        self._budget = budget
        self._fetcher = Fetcher(config.allow_networks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work for as long as the context lasts."""
        async with self._fetcher.running():
            yield

    def resources(self) -> Resources:
        """Make the resources of one request."""
        return Resources(self._budget.reservation(), self._blobs)

    async def receive(self, files: list[GivenFile], resources: Resources) -> dict[str, Attachment]:
        """Return the files of one request by their `param`.

        Raises:
            BadRequest: a file cannot be read or fetched, or they are too many or too large.
            TooManyLargeRequests: there was no memory for one in time.
            LineUnavailable: the store fails.
        """
        received: dict[str, Attachment] = {}
        if len(files) > self._config.max_count:
            raise BadRequest(
                f"Too many files. The limit is {self._config.max_count} per request.",
                param=files[self._config.max_count].param,
            )
        deadline = asyncio.get_running_loop().time() + self._config.fetch_timeout
        left = self._config.max_bytes
        for file in files:
            try:
                async with asyncio.timeout_at(None if read_inline(file) else deadline):
                    attachment = await self._receive_one(file, left, resources.reservation)
            except TimeoutError:
                if resources.reservation.waits:
                    raise TooManyLargeRequests from None
                seconds = self._config.fetch_timeout
                message = f"The file could not be fetched within {seconds:g} seconds."
                _log_unfetched("no answer in time (files.fetch_timeout)")
                raise BadRequest(message, param=file.param) from None
            except (DataUrlError, FetchError) as error:
                if isinstance(error, FetchError):
                    _log_unfetched(str(error))
                raise BadRequest(str(error), param=file.param) from None
            except StoreError:
                raise LineUnavailable(_NO_STORE) from None
            received[file.param] = attachment
            if attachment.blob_key:
                resources.blob_keys.append(attachment.blob_key)
            left -= attachment.size
        return received

    async def offload(
        self, messages: bytes | bytearray, file_bytes: int, resources: Resources
    ) -> Offloaded:
        """Put encoded messages, or a body, in the store if they are too long to travel with their
        job.

        Raises:
            LineUnavailable: the store fails.
        """
        try:
            offloaded = await self._blobs.offload(messages, file_bytes)
        except StoreError:
            raise LineUnavailable(_NO_STORE) from None
        resources.blob_keys.append(offloaded.blob_key)
        return offloaded

    async def _receive_one(
        self, file: GivenFile, left: int, reservation: Reservation
    ) -> Attachment:
        before = reservation.bytes
        async with AsyncExitStack() as stack:
            given = await self._open(file, left, reservation, stack)
            head = bytearray()
            limited = self._limited(file, given.pieces, left, head)
            content = await self._blobs.put(await stack.enter_async_context(aclosing(limited)))
        reservation.release(before + len(content.content))
        if not content.size:
            raise BadRequest("The file is empty.", param=file.param)
        first = bytes(head)
        picture = None
        if may_be_picture(first):
            picture = await work_on(len(first), partial(read_picture, first))
        return Attachment(
            name=_plain(file.name),
            type=picture.type if picture else media_type(first[:TYPE_HEAD], *given.said),
            size=content.size,
            sha256=content.sha256,
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            content=content.content,
            blob_key=content.blob_key,
        )

    async def _open(
        self, file: GivenFile, left: int, reservation: Reservation, stack: AsyncExitStack
    ) -> _Given:
        """Open a file where it is: in the request, in our own media store, or at its URL."""
        if inline := read_inline(file):
            return _Given(_interleaved(inline.pieces()), (file.name, inline.type, ""))
        if link := await find_own(self._media, file.source.start):
            pieces = self._media.read(link.kind, link.name)
            return _Given(_reserving(pieces, reservation), (link.filename, link.type, ""))
        fetched = await stack.enter_async_context(self._fetcher.open(file.source.start))
        if (fetched.size or 0) > left:
            raise self._too_large(file)
        said = (file.name or fetched.name, fetched.type, fetched.in_url)
        return _Given(_reserving(fetched.pieces(), reservation), said)

    async def _limited(
        self, file: GivenFile, pieces: AsyncIterator[bytes], left: int, head: bytearray
    ) -> AsyncGenerator[bytes, None]:
        """Pass on at most `left` bytes, and copy the first ones, which show the type, to `head`.

        Raises:
            BadRequest: the file is too large, or a picture of a kind that no model sees.
        """
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise self._too_large(file)
            if len(head) < TYPE_HEAD or (len(head) < HEAD and may_be_picture(head)):
                head += piece
                if is_heic(head):
                    raise BadRequest(_HEIC, param=file.param)
            yield piece

    def _too_large(self, file: GivenFile) -> BadRequest:
        limit = self._config.max_bytes
        message = f"The files of this request are too large. The limit is {limit} bytes in total."
        return BadRequest(message, param=file.param)


def read_inline(file: GivenFile) -> InlineFile | None:
    """Return a file that is part of the request itself, or None."""
    if file.base64_type is not None:
        return InlineFile(file.base64_type, is_base64=True, text=file.source)
    return read_data_url(file.source) if is_data_url(file.source.start) else None


def _log_unfetched(reason: str) -> None:
    # Its URL is a part of the prompt.
    fields = {"event": "file_not_fetched", "reason": reason}
    logger.info("a file that a client named could not be fetched", extra=fields)


def _plain(name: str) -> str:
    """Return a client's name for a file, without folders and unprintable characters."""
    start = max(name.rfind("/"), name.rfind("\\")) + 1
    bare = name[start : start + 10 * _LONGEST_NAME]  # a client may send a name of many megabytes
    return re.sub(r"[^\w .,()+@=-]", "_", bare).strip(" .")[:_LONGEST_NAME]


async def _reserving(
    pieces: AsyncIterator[bytes], reservation: Reservation
) -> AsyncIterator[bytes]:
    """Pass on pieces as soon as there is room for the part of them that is not written yet."""
    before, received = reservation.bytes, 0
    async for piece in pieces:
        received += len(piece)
        await reservation.grow(before + min(received, BUFFER))
        yield piece


async def _interleaved(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Decode piece by piece, and let other tasks run in between."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
