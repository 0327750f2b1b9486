"""The admin API: what operators and their programs can read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sanic import HTTPResponse, Request

from app.admin.access import Access
from app.admin.boards import Boards, NamedBoard, RedisGone, Unreadable, in_time
from app.admin.body import query
from app.admin.errors import RedisUnusable
from app.admin.ledger import Ledgers
from app.admin.streams import Streams
from app.http.json_answer import json
from app.openai.errors import NotFound
from wire.line.board import BoardJob, Story
from wire.line.operator import OperatorLine

Read = Callable[..., Awaitable[msgspec.Struct]]
Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]

Limit = Annotated[int, Meta(ge=1, le=200)]


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query without fields."""


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the waiting jobs: of all keys, or of one, by its HMAC."""

    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Limit = 50
    key: Annotated[str, Meta(max_length=64)] = ""


class Latest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number of the latest entries."""

    limit: Limit = 50


class Jobs(msgspec.Struct, frozen=True):
    """Jobs, and the names of their keys by the HMACs of these."""

    jobs: list[BoardJob] | list[Story]
    names: dict[str, str]


class NamedStory(Story, frozen=True, kw_only=True):
    """A story with the name of its key."""

    name: str = ""


class ReadApi:
    """Handlers of all that only reads."""

    def __init__(
        self,
        access: Access,
        line: OperatorLine,
        boards: Boards,
        ledgers: Ledgers,
        streams: Streams,
    ) -> None:
        self._access = access
        self._line = line
        self._boards = boards
        self._ledgers = ledgers
        self._streams = streams
        self._events = BoardEvents()

    async def board(self, request: Request) -> HTTPResponse:
        """Answer with the board."""
        return await self._answer(request, lambda _: self._boards.latest(), NoQuery)

    async def jobs(self, request: Request) -> HTTPResponse:
        """Answer with a part of the waiting jobs."""

        async def read(page: Page) -> Jobs:
            return await self._named(self._line.jobs(page.offset, page.limit, page.key))

        return await self._answer(request, read, Page)

    async def endings(self, request: Request) -> HTTPResponse:
        """Answer with the jobs that have ended lately."""

        async def read(latest: Latest) -> Jobs:
            return await self._named(self._line.endings(latest.limit))

        return await self._answer(request, read, Latest)

    async def story(self, request: Request, id: str) -> HTTPResponse:
        """Answer with the story of a job."""

        async def read(_: NoQuery) -> NamedStory:
            story = await in_time(self._line.story(id))
            if story is None:
                raise NotFound("There is no such job, or it ended too long ago.")
            names = await self._boards.named([story])
            return NamedStory(**msgspec.structs.asdict(story), name=names.get(story.key, ""))

        return await self._answer(request, read, NoQuery)

    async def keys(self, request: Request) -> HTTPResponse:
        """Answer with the gateway keys and their usage."""
        return await self._answer(request, lambda _: self._ledgers.latest(), NoQuery)

    async def events(self, request: Request) -> None:
        """Answer with a stream of boards."""
        admitted = self._access.admit(request)
        await self._streams.send(request, admitted, self._events.of(self._boards))

    async def _answer(
        self, request: Request, read: Callable[[Any], Awaitable[msgspec.Struct]], asked: type[Any]
    ) -> HTTPResponse:
        """Answer an operator with what `read` returns for a query."""
        self._access.admit(request)
        try:
            return json(await read(query(request, asked)))
        except RedisGone as gone:
            raise RedisUnusable(f"Redis cannot be used ({gone}).") from None

    async def _named(self, reading: Awaitable[list[Any]]) -> Jobs:
        jobs = await in_time(reading)
        return Jobs(jobs, await self._boards.named(jobs))


class BoardEvents:
    """Boards as events of a stream, each encoded once for all streams."""

    def __init__(self) -> None:
        self._last: tuple[NamedBoard | Unreadable | None, bytes] = None, b""

    async def of(self, boards: Boards) -> AsyncGenerator[bytes]:
        """Yield an event for each change."""
        async with aclosing(boards.changes()) as changes:
            async for seen in changes:
                yield self._encoded(seen)

    def _encoded(self, seen: NamedBoard | Unreadable) -> bytes:
        last, encoded = self._last
        if last is not seen:
            name = b"unavailable" if isinstance(seen, Unreadable) else b"board"
            encoded = b"event: %b\ndata: %b\n\n" % (name, msgspec.json.encode(seen))
            self._last = seen, encoded
        return encoded
