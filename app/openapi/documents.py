"""`GET {prefix}/openapi.json` and `GET {prefix}/docs`: the description, and a page of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import msgspec
from sanic import HTTPResponse, Request
from sanic.response import empty, raw

from app.openapi.page import page_headers, read_style, render
from app.openapi.schemas import Schema


class Document(msgspec.Struct, frozen=True):
    """A document as it is sent."""

    body: bytes
    type: str
    headers: dict[str, str]

    def answer(self, request: Request) -> HTTPResponse:
        """Answer a request, with 304 if the client knows this version."""
        headers = self.headers | {"etag": _etag(self.body), "cache-control": "no-cache"}
        if _is_known(headers["etag"], request.headers.get("if-none-match", "")):
            return empty(304, headers)
        return raw(self.body, headers=headers, content_type=self.type)


class Documents:
    """Handlers. The documents are made for the first request, in a thread, and kept."""

    def __init__(self, describe: Callable[[], Schema]) -> None:
        self._describe = describe
        self._made: tuple[Document, Document] | None = None

    async def description(self, request: Request) -> HTTPResponse:
        """Answer with the description."""
        return (await self._documents())[0].answer(request)

    async def page(self, request: Request) -> HTTPResponse:
        """Answer with the page."""
        return (await self._documents())[1].answer(request)

    async def _documents(self) -> tuple[Document, Document]:
        if self._made is None:
            self._made = await asyncio.to_thread(self.make)
        return self._made

    def make(self) -> tuple[Document, Document]:
        """Make the description and its page."""
        described, style = self._describe(), read_style()
        return (
            Document(msgspec.json.encode(described), "application/json", {}),
            Document(
                render(described, style).encode(), "text/html; charset=utf-8", page_headers(style)
            ),
        )


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _is_known(etag: str, given: str) -> bool:
    """Return True if an `If-None-Match` names this version."""
    known = [one.strip().removeprefix("W/") for one in given.split(",")]
    return etag in known or "*" in known
