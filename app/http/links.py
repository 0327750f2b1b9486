"""The addresses at which clients fetch what the workers have put into the media store."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

import msgspec
from sanic import Request

import settings
from wire.events import Delta, Event, File, Image

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")


class Links:
    """Addresses under one root, as one request sees the gateway."""

    def __init__(self, request: Request, server: settings.Server) -> None:
        # The host goes into an answer's text, so it must be one.
        host = request.host if _HOST.fullmatch(request.host) else f"localhost:{server.port}"
        self._root = server.public_url or f"{request.scheme}://{host}"

    def into(self, events: Iterable[Event]) -> list[Event]:
        """The same events, in which whatever is in our store has its address."""
        return [event if isinstance(event, Delta) else self._into(event) for event in events]

    def _into(self, event: Event) -> Event:
        match event:
            case Image(url=None, name=name) if name:
                return msgspec.structs.replace(event, url=f"{self._root}/images/{quote(name)}")
            case File(url=None, name=name) if name:
                return msgspec.structs.replace(event, url=f"{self._root}/files/{quote(name)}")
            case _:
                return event
