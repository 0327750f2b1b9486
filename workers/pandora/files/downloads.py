"""Images and files of an answer, fetched from the upstream: a pointer in, the event out.

The upstream tells an address, which needs no authorization and ends after about an hour; what is
there goes into our media store, or the address itself to the client (`use_oaiusercontent_url`).
What the upstream refuses, or does not give in time, is an event too, without an address and with
the reason: the answer goes on.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import msgspec
import yarl

import settings
from store.media import Media, MediaError, MediaKind
from wire.events import File, Image
from wire.jobs import ChatJob
from workers.pandora.translate.placeholders import FileWanted, ImageWanted

TIMEOUT = 20.0
"""Seconds that the upstream has to tell where one image or file is."""

_MAX_BYTES = 64 * 1024
_USABLE = re.compile(r"https?://[^\s<>]+")

_log = logging.getLogger(__name__)


class _Answer(msgspec.Struct, frozen=True):
    """`download_url`, or `error_code` in an answer whose status is 200 even so."""

    download_url: str | None = None
    error_code: str | None = None


class RefusedError(Exception):
    """The upstream does not give something. Its text is a code."""


class Downloads:
    """Asks under `root`, the upstream's URL up to `/backend-api`."""

    def __init__(
        self, session: aiohttp.ClientSession, root: str, media: Media, rules: settings.Media
    ) -> None:
        self._session = session
        self._root = root
        self._media = media
        self._rules = rules

    async def image(self, job: ChatJob, wanted: ImageWanted) -> Image:
        """The image behind a pointer. Raises nothing."""
        tool, prompt = wanted.tool, wanted.prompt
        file_id = quote(wanted.pointer.rpartition("://")[2], safe="")
        try:
            url = await self._find(job.bearer, f"/files/{file_id}/download", {})
            handed = url if self._rules.use_oaiusercontent_url else None
            if handed and not job.copies:
                return Image(tool, handed, prompt=prompt)
            return Image(tool, handed, await self._fetch(url, "images", ""), prompt)
        except RefusedError as refused:
            return Image(tool, None, prompt=prompt, error=str(refused))

    async def file(self, job: ChatJob, conversation_id: str, wanted: FileWanted) -> File:
        """The file that a message of a conversation links to. Raises nothing."""
        path = f"/conversation/{quote(conversation_id, safe='')}/interpreter/download"
        query = {"message_id": wanted.message_id, "sandbox_path": wanted.path}
        try:
            url = await self._find(job.bearer, path, query)
            if self._rules.use_oaiusercontent_url:
                return File(url)
            return File(None, await self._fetch(url, "files", wanted.path.rpartition("/")[2]))
        except RefusedError as refused:
            return File(None, error=str(refused))

    async def _fetch(self, url: str, kind: MediaKind, given: str) -> str:
        """Put what is at an address into the store; its name there.

        Raises:
            RefusedError: it cannot be had, or not be kept.
        """
        url = by_file_server(url, self._rules)
        try:
            async with (
                asyncio.timeout(self._rules.download_timeout),
                aclosing(self._pieces(url)) as pieces,
            ):
                return await self._media.put(kind, pieces, given)
        except (RefusedError, MediaError) as refused:
            code = str(refused)
        except TimeoutError:
            code = "timeout"
        raise _refused(code)

    async def _pieces(self, url: str) -> AsyncGenerator[bytes, None]:
        """What is at an address.

        Raises:
            RefusedError: it is not there, or not whole, or too large by its own account.
        """
        try:
            async with self._session.get(
                yarl.URL(url, encoded=True),
                headers={"Accept-Encoding": "identity"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),  # `_fetch` has one
            ) as response:
                if response.status != 200:
                    raise RefusedError(f"http_{response.status}")
                if (response.content_length or 0) > self._media.max_bytes:
                    raise RefusedError("too_large")
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not as it is: it names the address, and the store's own errors look alike.
            raise RefusedError(type(error).__name__) from None

    async def _find(self, bearer: str, path: str, query: Mapping[str, str]) -> str:
        """The address to download from.

        Raises:
            RefusedError: there is none.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._ask(bearer, path, query)
        except RefusedError as refused:
            code = str(refused)
        except TimeoutError:
            code = "timeout"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            code = type(error).__name__
        raise _refused(code)

    async def _ask(self, bearer: str, path: str, query: Mapping[str, str]) -> str:
        # yarl would take an encoded path for one to be encoded.
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        url = yarl.URL(f"{self._root}{path}" + (f"?{text}" if text else ""), encoded=True)
        async with self._session.get(
            url, headers={"Authorization": f"Bearer {bearer}"}, allow_redirects=False
        ) as response:
            body = b""
            async for data in response.content.iter_any():
                body += data
                if len(body) > _MAX_BYTES:
                    raise RefusedError("too_large")
            answer = _decode(body)
            if answer.download_url and _USABLE.fullmatch(answer.download_url):
                return answer.download_url
            raise RefusedError(answer.error_code or f"http_{response.status}")


def by_file_server(url: str, rules: settings.Media) -> str:
    """An upload's or download's address by way of Pandora's file server, if the operator says so.

    Not where clients are given the upstream's own addresses.
    """
    if not rules.use_pandora_file_server or rules.use_oaiusercontent_url:
        return url
    server = urlsplit(rules.pandora_file_server)
    return urlunsplit(urlsplit(url)._replace(scheme=server.scheme, netloc=server.netloc))


def _refused(code: str) -> RefusedError:
    # Neither path nor query: they name what the user works on.
    _log.warning(
        "An image or a file of an answer could not be had: %s",
        code,
        extra={"event": "download_failed", "reason": code},
    )
    return RefusedError(code)


def _decode(body: bytes) -> _Answer:
    try:
        return msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Answer()
