"""The admin API: what operators and their programs can read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sanic import HTTPResponse, Request

from app.admin.access import Access
from app.admin.boards import Boards, NamedBoard, RedisGone, Unreadable
from app.admin.body import query
from app.admin.errors import RedisUnusable
from app.admin.sources import Sources
from app.admin.streams import Streams
from app.http.json_answer import json
from app.openai.errors import NotFound
from wire.line.audit import AuditEntry
from wire.line.board import BoardJob, Story
from wire.line.history import FIRST_TOKENS, MINUTES, WAITS, Minute
from wire.line.processes import ProcessFigures

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


class Entries(msgspec.Struct, frozen=True):
    """Entries of the audit log, the latest first."""

    entries: list[AuditEntry]


class Minutes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number of minutes."""

    minutes: Annotated[int, Meta(ge=1, le=MINUTES)] = 60


class History(msgspec.Struct, frozen=True):
    """Figures of minutes, the oldest first. Minutes that were not recorded are missing.

    `wait_bounds` and `first_token_bounds` are the upper bounds, in seconds, of the buckets; one
    more holds the longer ones.
    """

    minutes: list[Minute]
    wait_bounds: Sequence[float] = WAITS
    first_token_bounds: Sequence[float] = FIRST_TOKENS


class Figures(msgspec.Struct, frozen=True):
    """Figures of all processes."""

    processes: list[ProcessFigures]


class NamedStory(Story, frozen=True, kw_only=True):
    """A story with the name of its key."""

    name: str = ""


class ReadApi:
    """Handlers of all that only reads."""

    def __init__(self, access: Access, sources: Sources, streams: Streams) -> None:
        self._access = access
        self._sources = sources
        self._streams = streams
        self._events = BoardEvents()

    async def board(self, request: Request) -> HTTPResponse:
        """Answer with the board."""
        return await self._answer(request, lambda _: self._sources.boards.latest(), NoQuery)

    async def jobs(self, request: Request) -> HTTPResponse:
        """Answer with a part of the waiting jobs."""

        async def read(page: Page) -> Jobs:
            return await self._named(self._sources.waiting(page.offset, page.limit, page.key))

        return await self._answer(request, read, Page)

    async def endings(self, request: Request) -> HTTPResponse:
        """Answer with the jobs that have ended lately."""

        async def read(latest: Latest) -> Jobs:
            return await self._named(self._sources.endings(latest.limit))

        return await self._answer(request, read, Latest)

    async def story(self, request: Request, id: str) -> HTTPResponse:
        """Answer with the story of a job."""

        async def read(_: NoQuery) -> NamedStory:
            story = await self._sources.story(id)
            if story is None:
                raise NotFound("There is no such job, or it ended too long ago.")
            names = await self._sources.boards.named([story])
            return NamedStory(**msgspec.structs.asdict(story), name=names.get(story.key, ""))

        return await self._answer(request, read, NoQuery)

    async def audit(self, request: Request) -> HTTPResponse:
        """Answer with the latest entries of the audit log."""

        async def read(latest: Latest) -> Entries:
            return Entries(await self._sources.audit(latest.limit))

        return await self._answer(request, read, Latest)

    async def history(self, request: Request) -> HTTPResponse:
        """Answer with the figures of the last minutes."""

        async def read(asked: Minutes) -> History:
            since = time.time() - asked.minutes * 60
            return History([one for one in await self._sources.history() if one.at > since])

        return await self._answer(request, read, Minutes)

    async def processes(self, request: Request) -> HTTPResponse:
        """Answer with the figures of all processes."""

        async def read(_: NoQuery) -> Figures:
            return Figures((await self._sources.boards.latest()).processes)

        return await self._answer(request, read, NoQuery)

    async def keys(self, request: Request) -> HTTPResponse:
        """Answer with the gateway keys and their usage."""
        return await self._answer(request, lambda _: self._sources.ledger(), NoQuery)

    async def events(self, request: Request) -> None:
        """Answer with a stream of boards."""
        admitted = self._access.admit(request)
        await self._streams.send(request, admitted, self._events.of(self._sources.boards))

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
        jobs = await reading
        return Jobs(jobs, await self._sources.boards.named(jobs))


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
