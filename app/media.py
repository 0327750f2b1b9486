"""`GET /images/{name}` and `GET /files/{name}`: downloads from the media store.

Anyone with the URL may download, since bots and browsers send no key with a link; the names cannot
be guessed. The content was made by strangers, so the headers make browsers display only pictures
and execute nothing.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from sanic import HTTPResponse, Request
from sanic.response import raw

from app.http.stream import ResponseStream
from app.openai.errors import NotFound
from store.media import Media, MediaKind, StoredObject

LONGEST_CACHED = 86_400
"""Seconds that a client may cache a download."""


class MediaDownloads:
    """Handler for one kind of media. Each piece may wait `timeout` seconds for the client."""

    def __init__(self, media: Media, kind: MediaKind, timeout: float) -> None:
        self._media = media
        self._kind: MediaKind = kind
        self._timeout = timeout

    async def __call__(self, request: Request, name: str) -> HTTPResponse | None:
        """Answer GET or HEAD.

        Raises:
            NotFound: there is no file of this name, or it has expired.
            StoreError: the store fails.
        """
        name = unquote(name)
        stored = await self._media.find(self._kind, name)
        if stored is None:
            raise NotFound("No such file, or it has expired.")
        headers = _headers(stored, self._media.ttl)
        if request.method == "HEAD":
            return raw(b"", headers=headers, content_type=stored.type)
        stream = await ResponseStream.begin(
            request, self._timeout, headers | {"content-type": stored.type}
        )
        async for piece in self._media.read(self._kind, name):
            await stream.send(piece)
        await stream.end()
        return None


def _headers(stored: StoredObject, ttl: float) -> dict[str, str]:
    max_age = max(0, min(LONGEST_CACHED, int(ttl - stored.age)))
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", stored.filename)
    disposition = "inline" if stored.inline else "attachment"
    encoded = quote(stored.filename, safe="")
    return {
        "content-length": str(stored.size),
        "content-disposition": f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{encoded}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cache-control": f"private, max-age={max_age}, immutable",
    }
