"""Images and files of an answer, asked from the upstream: a pointer in, the event out.

What the upstream refuses, or does not tell in time, is an event too, without a `url` and with the
reason: the answer goes on. So far a client is given the upstream's own address, which needs no
authorization and ends after about an hour.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

from wire.events import File, Image
from workers.pandora.wanted import FileWanted, ImageWanted

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
    """The upstream did not say where something is. Its text is a code."""


class Downloads:
    """Asks under `root`, the upstream's URL up to `/backend-api`."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._root = root

    async def image(self, bearer: str, wanted: ImageWanted) -> Image:
        """The image behind a pointer. Raises nothing."""
        file_id = quote(wanted.pointer.rpartition("://")[2], safe="")
        try:
            url = await self._find(bearer, f"/files/{file_id}/download", {})
        except RefusedError as refused:
            return Image(wanted.tool, None, prompt=wanted.prompt, error=str(refused))
        return Image(wanted.tool, url, prompt=wanted.prompt)

    async def file(self, bearer: str, conversation_id: str, wanted: FileWanted) -> File:
        """The file that a message of a conversation links to. Raises nothing."""
        path = f"/conversation/{quote(conversation_id, safe='')}/interpreter/download"
        query = {"message_id": wanted.message_id, "sandbox_path": wanted.path}
        try:
            return File(await self._find(bearer, path, query))
        except RefusedError as refused:
            return File(None, error=str(refused))

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
        # Neither path nor query: they name what the user works on.
        _log.warning(
            "The upstream refused a download: %s",
            code,
            extra={"event": "download_refused", "reason": code},
        )
        raise RefusedError(code)

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


def _decode(body: bytes) -> _Answer:
    try:
        return msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Answer()
