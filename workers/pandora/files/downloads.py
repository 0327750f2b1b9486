"""Downloads of an answer's images and files: a placeholder in, the event in its place out.

The upstream returns an address that needs no authorization and expires after about an hour. Its
content goes into our media store, or the address itself to the client (`use_oaiusercontent_url`).
A download that is refused or late becomes an event without an address, with the reason: the answer
goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

import settings
from store.media import Media, MediaKind
from store.objects import StoreError
from wire.events import File, Image
from wire.jobs import ChatJob
from workers.http.unreachable import UnreachableError, reaching
from workers.pandora.backend import Backend
from workers.pandora.json_decoding import decode_json
from workers.pandora.translate.links import link_target, web_url
from workers.pandora.translate.placeholders import FilePlaceholder, ImagePlaceholder

TIMEOUT = 20.0
"""Seconds for the upstream to return the address of one image or file."""

logger = logging.getLogger(__name__)


class _Location(msgspec.Struct, frozen=True):
    """`download_url`, or an `error_code`, even with the status 200."""

    download_url: str | None = None
    error_code: str | None = None


class RefusedError(Exception):
    """The upstream does not give something. Its text is a code; `detail` is for the log alone."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.detail = detail


class Downloads:
    """Downloads images and files into the media store."""

    def __init__(self, backend: Backend, media: Media, rules: settings.Media) -> None:
        self._backend = backend
        self._media = media
        self._rules = rules

    async def fetch(
        self, job: ChatJob, conversation_id: str, placeholder: ImagePlaceholder | FilePlaceholder
    ) -> Image | File:
        """The event in the place of a placeholder. Sets its own deadlines, raises nothing."""
        if isinstance(placeholder, ImagePlaceholder):
            return await self._image(job, placeholder)
        return await self._file(job, conversation_id, placeholder)

    async def _image(self, job: ChatJob, wanted: ImagePlaceholder) -> Image:
        tool, prompt = wanted.tool, wanted.prompt
        file_id = quote(wanted.pointer.rpartition("://")[2], safe="")
        try:
            url = await self._locate(job.bearer, f"/files/{file_id}/download")
            handed_out = link_target(url) if self._rules.use_oaiusercontent_url else None
            if handed_out and not job.copies:
                return Image(tool, handed_out, prompt=prompt)
            return Image(tool, handed_out, await self._store(url, "images"), prompt)
        except RefusedError as refused:
            return Image(tool, None, prompt=prompt, error=str(refused))

    async def _file(self, job: ChatJob, conversation_id: str, wanted: FilePlaceholder) -> File:
        path = f"/conversation/{quote(conversation_id, safe='')}/interpreter/download"
        query = {"message_id": wanted.message_id, "sandbox_path": wanted.path}
        try:
            url = await self._locate(job.bearer, path, query)
            if self._rules.use_oaiusercontent_url:
                return File(link_target(url))
            return File(None, await self._store(url, "files", wanted.path.rpartition("/")[2]))
        except RefusedError as refused:
            return File(None, error=str(refused))

    async def _locate(self, bearer: str, path: str, query: Mapping[str, str] | None = None) -> str:
        """The address to download from.

        Raises:
            RefusedError: the upstream returns none.
        """
        if query:
            path += "?" + "&".join(f"{name}={quote(text, safe='')}" for name, text in query.items())
        try:
            response = await self._backend.call("GET", path, bearer, timeout=TIMEOUT)
        except UnreachableError as error:
            code = "timeout" if error.timed_out else error.reason
            raise _refused(code, error.detail) from None
        if response.flaw:
            raise _refused(response.flaw)
        location = decode_json(response.body, _Location) or _Location()
        if url := web_url(location.download_url):
            return url
        raise _refused(location.error_code or f"http_{response.status}")

    async def _store(self, url: str, kind: MediaKind, original_name: str = "") -> str:
        """Download the content at an address into the store; its name there.

        Raises:
            RefusedError: it cannot be downloaded or stored.
        """
        url = by_file_server(url, self._rules)
        try:
            async with (
                asyncio.timeout(self._rules.download_timeout),
                aclosing(self._download(url)) as chunks,
            ):
                return await self._media.put(kind, chunks, original_name)
        except RefusedError as refused:
            raise _refused(str(refused), refused.detail) from None
        except StoreError as failed:
            code = str(failed)
        except TimeoutError:
            code = "timeout"
        raise _refused(code)

    async def _download(self, url: str) -> AsyncGenerator[bytes, None]:
        """The content at an address.

        Raises:
            RefusedError: it is missing, incomplete, or too large by its own declaration. Network
                errors must not pass: they name the address, and the store's own look alike.
        """
        try:
            with reaching():
                async with await self._backend.get(url) as response:
                    if response.status != 200:
                        raise RefusedError(f"http_{response.status}")
                    if (response.content_length or 0) > self._media.max_bytes:
                        raise RefusedError("too_large")
                    async for chunk in response.content.iter_any():
                        yield chunk
        except UnreachableError as error:
            raise RefusedError(error.reason, error.detail) from None


def by_file_server(url: str, rules: settings.Media) -> str:
    """The address of an upload or download, by way of Pandora's file server if that is set.

    Not where clients get the upstream's own addresses.
    """
    if not rules.use_pandora_file_server or rules.use_oaiusercontent_url:
        return url
    server = urlsplit(rules.pandora_file_server)
    try:
        return urlunsplit(urlsplit(url)._replace(scheme=server.scheme, netloc=server.netloc))
    except ValueError:
        return url  # not a URL: the request for it will fail


def _refused(code: str, detail: str = "") -> RefusedError:
    # Neither path nor query is logged: they name what the user works on.
    logger.warning(
        "an image or a file of an answer could not be downloaded",
        extra={"event": "download_failed", "reason": code} | ({"detail": detail} if detail else {}),
    )
    return RefusedError(code)
