"""The files of a request, taken in before its job is put in line: whatever is wrong with one is a
400 that names the part.

Large ones go to the store of large parts as they come, so a front end holds none of them whole
(but for the body that a data URL came in).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import msgspec

import settings
from app.files.data_urls import DataUrlError, is_data_url, read_data_url
from app.files.fetcher import Fetcher, FetchError
from app.files.pictures import HEAD, read_picture
from app.files.ssrf_guard import networks
from app.http.budget import Budget, Charge
from app.openai.errors import BadRequest, Crowded, LineUnavailable
from app.openai.requests import GivenFile
from store.blobs import BUFFER, Blobs
from store.media import MediaError
from wire.jobs import Attachment, ChatJob

_LONGEST_NAME = 120
_NO_STORE = "The store for what is large cannot be used now. Try again in a few seconds."


class Held(msgspec.Struct):
    """What a request holds: memory, and parts in the store, by names, which it is to remove."""

    charge: Charge
    names: list[str]


class Attachments:
    """Takes files in. It is a context, in which alone it works."""

    def __init__(self, config: settings.Files, blobs: Blobs, budget: Budget) -> None:
        self._config = config
        self._blobs = blobs
        self._budget = budget
        self._fetcher = Fetcher(networks(config.allow_networks))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work for as long as the context lasts."""
        async with self._fetcher.running():
            yield

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[Held]:
        """For one request: what it still holds at the context's end is removed."""
        with self._budget.charge() as charge:
            held = Held(charge, [])
            try:
                yield held
            finally:
                if held.names:
                    await asyncio.shield(self._blobs.remove(held.names))

    async def take(self, given: list[GivenFile], held: Held) -> dict[str, Attachment]:
        """The files of one request by their `param`.

        Raises:
            BadRequest: one of them cannot be had, or they are too many or too large.
            Crowded: there was no room for one in time.
            LineUnavailable: the store fails.
        """
        taken: dict[str, Attachment] = {}
        if len(given) > self._config.max_count:
            raise BadRequest(
                f"One request may have at most {self._config.max_count} files.",
                param=given[self._config.max_count].param,
            )
        clock = asyncio.get_running_loop().time
        until = clock() + self._config.fetch_timeout
        left = self._config.max_bytes
        for one in given:
            try:
                async with asyncio.timeout_at(None if is_data_url(one.url) else until):
                    file = taken[one.param] = await self._take(one, left, held.charge)
            except TimeoutError:
                if held.charge.waits:
                    raise Crowded from None
                message = f"The file did not come within {self._config.fetch_timeout:g} seconds."
                raise BadRequest(message, param=one.param) from None
            except (DataUrlError, FetchError) as error:
                raise BadRequest(str(error), param=one.param) from None
            except MediaError:
                raise LineUnavailable(_NO_STORE) from None
            if file.blob_key:
                held.names.append(file.blob_key)
            left -= file.size
        return taken

    async def lighten(self, job: ChatJob, held: Held) -> ChatJob:
        """A job as it may go into the line.

        Raises:
            LineUnavailable: the store fails.
        """
        try:
            light = await self._blobs.offload(job)
        except MediaError:
            raise LineUnavailable(_NO_STORE) from None
        if light.offloaded is not None:
            held.names.append(light.offloaded.blob_key)
        return light

    async def _take(self, given: GivenFile, left: int, charge: Charge) -> Attachment:
        had = charge.bytes
        async with AsyncExitStack() as stack:
            if is_data_url(given.url):
                data = read_data_url(given.url)
                kind, pieces = data.type, _one_by_one(data.pieces())
            else:
                fetched = await stack.enter_async_context(self._fetcher.open(given.url))
                if (fetched.size or 0) > left:
                    raise self._too_large(given)
                kind, pieces = fetched.type, _charged(fetched.pieces(), charge)
            head = bytearray()
            counted = self._counted(given, pieces, left, head if _is_image(kind) else None)
            content = await self._blobs.put(await stack.enter_async_context(aclosing(counted)))
        charge.give_back(had + len(content.content))
        if not content.size:
            raise BadRequest("The file is empty.", param=given.param)
        picture = read_picture(bytes(head)) if _is_image(kind) else None
        if picture:
            kind = picture.type
        elif _is_image(kind):
            kind = "text/plain"  # as the predecessor did with what is no image
        return Attachment(
            name=_plain(given.name),
            type=kind,
            size=content.size,
            sha256=content.sha256,
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            content=content.content,
            blob_key=content.blob_key,
        )

    async def _counted(
        self,
        given: GivenFile,
        pieces: AsyncIterator[bytes],
        left: int,
        head: bytearray | None,
    ) -> AsyncGenerator[bytes, None]:
        """The same pieces, at most `left` bytes; the first ones are kept in `head`, too."""
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise self._too_large(given)
            if head is not None and len(head) < HEAD:
                head += piece
            yield piece

    def _too_large(self, given: GivenFile) -> BadRequest:
        most = self._config.max_bytes
        message = f"The files of one request may have at most {most} bytes together."
        return BadRequest(message, param=given.param)


def _is_image(kind: str) -> bool:
    return kind.startswith("image/")


def _plain(name: str) -> str:
    """A client's name for a file, without its folders and without what cannot be shown."""
    bare = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w .,()+@=-]", "_", bare).strip(" .")[:_LONGEST_NAME]


async def _charged(pieces: AsyncIterator[bytes], charge: Charge) -> AsyncIterator[bytes]:
    """The same pieces, as soon as there is room for what is held of them until it is written."""
    had, came = charge.bytes, 0
    async for piece in pieces:
        came += len(piece)
        await charge.hold(had + min(came, BUFFER))
        yield piece


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Decoded pieces, between which others have their turn."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
