"""URLs under which clients download images and files from the media store."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

import msgspec
from sanic import Request

import settings
from wire.events import Delta, Event, File, Image

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")


class MediaLinks:
    """Makes URLs with the gateway's address as the client of one request sees it."""

    def __init__(self, request: Request, server: settings.Server) -> None:
        # The host becomes part of an answer's text, so it must be a valid one.
        host = request.host if _HOST.fullmatch(request.host) else f"localhost:{server.port}"
        self._root = server.public_url or f"{request.scheme}://{host}"

    def add_to(self, events: Iterable[Event]) -> list[Event]:
        """Return the same events, with a URL for each image and file in our store."""
        return [event if isinstance(event, Delta) else self._linked(event) for event in events]

    def _linked(self, event: Event) -> Event:
        match event:
            case Image(url=None, name=name) if name:
                return msgspec.structs.replace(event, url=f"{self._root}/images/{quote(name)}")
            case File(url=None, name=name) if name:
                return msgspec.structs.replace(event, url=f"{self._root}/files/{quote(name)}")
            case _:
                return event
