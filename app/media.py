"""`GET /images/{name}` and `GET /files/{name}`: what the workers have put into the media store.

Whoever has the address may fetch it, as bots and browsers send no key with a link; nobody can guess
one. What is served was made by strangers, so a browser is told to show pictures alone and to run
nothing.
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
"""Seconds that a client may keep what it has fetched."""


class Served:
    """One shelf of the store, over HTTP. A client may keep each piece waiting for `timeout`."""

    def __init__(self, media: Media, shelf: MediaKind, timeout: float) -> None:
        self._media = media
        self._shelf: MediaKind = shelf
        self._timeout = timeout

    async def __call__(self, request: Request, name: str) -> HTTPResponse | None:
        """Answer GET or HEAD.

        Raises:
            NotFound: there is nothing of this name, or not any more.
            MediaError: the store fails.
        """
        name = unquote(name)
        kept = await self._media.find(self._shelf, name)
        if kept is None:
            raise NotFound("There is nothing of this name, or not any more.")
        headers = _headers(kept, self._media.ttl)
        if request.method == "HEAD":
            return raw(b"", headers=headers, content_type=kept.type)
        stream = await ResponseStream.begin(
            request, self._timeout, headers | {"content-type": kept.type}
        )
        async for piece in self._media.read(self._shelf, name):
            await stream.send(piece)
        await stream.end()
        return None


def _headers(kept: StoredObject, ttl: float) -> dict[str, str]:
    cached = max(0, min(LONGEST_CACHED, int(ttl - kept.age)))
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", kept.filename)
    how = "inline" if kept.inline else "attachment"
    coded = quote(kept.filename, safe="")
    return {
        "content-length": str(kept.size),
        "content-disposition": f"{how}; filename=\"{plain}\"; filename*=UTF-8''{coded}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cache-control": f"private, max-age={cached}, immutable",
    }
