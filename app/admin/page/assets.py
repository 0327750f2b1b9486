"""Style, script and icon of the page: read once, and cached by browsers under their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sanic import HTTPResponse, Request
from sanic.response import raw

from app.openai.errors import NotFound

TYPES = {
    "admin.css": "text/css; charset=utf-8",
    "admin.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

HEADERS = {"cache-control": "public, max-age=31536000, immutable"}


class Assets:
    """Handler of all three, which are no secret. `urls` are their addresses in this order."""

    def __init__(self, base: str) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        for name, type in TYPES.items():
            content = Path(__file__).with_name(name).read_bytes()
            stem, _, ending = name.partition(".")
            hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
            self._files[hashed] = content, type
        style, script, icon = (f"{base}/assets/{name}" for name in self._files)
        self.urls = style, script, icon

    async def answer(self, request: Request, name: str) -> HTTPResponse:
        """Answer with a file.

        Raises:
            NotFound: there is none of this name, perhaps since a newer release runs.
        """
        if name not in self._files:
            raise NotFound("There is no such file.")
        content, type = self._files[name]
        return raw(content, headers=HEADERS, content_type=type)
