"""Our client of the upstream against the simulator, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
from obstore.store import MemoryStore

import settings
from simulator.server import serve
from store.media import Media
from tests.support.simulator import Caller
from wire import VERSION
from wire.events import Delta, Event, Failed
from wire.jobs import ChatJob, Family, Message
from workers.http.session import open_session
from workers.pandora.arkose import ArkoseServers
from workers.pandora.backend import Backend
from workers.pandora.client import Pandora
from workers.pandora.deletions import Deletions
from workers.pandora.files.downloads import Downloads
from workers.pandora.files.uploads import Uploads
from workers.pandora.gpts import Gpts
from workers.pandora.questions import Questions
from workers.pandora.translate.placeholders import ConfirmPolicy
from workers.pandora.transport import Mode, Transport
from workers.upstream import UpstreamError

HANDED_OUT = settings.Media(use_oaiusercontent_url=True)
"""Clients get the upstream's own addresses of images and files."""

MEDIA = Media(MemoryStore(), 100_000, 60.0)


class _Absent:
    """A part of the client that a test does not use."""

    async def upload(self, job: ChatJob) -> Any:
        raise AssertionError("this test uploads no files")

    async def find(self, id: str, bearer: str) -> Any:
        raise AssertionError("this test knows no GPTs")


def new_pandora(
    session: aiohttp.ClientSession,
    url: str,
    *,
    prefix: str = "",
    mode: Mode = "auto",
    media: Media = MEDIA,
    rules: settings.Media | None = None,
    arkose: ArkoseServers | None = None,
    uploads: Uploads | None = None,
    gpts: Gpts | None = None,
    keep_history: bool = True,
    deletions: Deletions | None = None,
    confirm: ConfirmPolicy = "no",
) -> Pandora:
    """Return a client with the given parts only."""
    backend = Backend(session, url, prefix, connect_timeout=2.0)
    absent: Any = _Absent()
    return Pandora(
        Questions(uploads or absent, gpts or absent, keep_history=keep_history),
        Transport(backend, mode, arkose),
        Downloads(backend, media, rules or settings.Media()),
        deletions,
        confirm,
    )


@asynccontextmanager
async def simulated() -> AsyncIterator[tuple[Caller, aiohttp.ClientSession]]:
    """A simulator, and a session to reach it with."""
    async with serve() as url, open_session() as session:
        yield Caller(session, url), session


def job(prompt: str, family: Family = "gpt_4_s", **more: Any) -> ChatJob:
    """A chat of one message."""
    return ChatJob(
        version=VERSION,
        id="job-1",
        family=family,
        bearer="alice",
        messages=[Message("user", prompt)],
        **more,
    )


async def collect(pandora: Pandora, asked: ChatJob) -> list[Event]:
    """All events of an answer, the failure that ended it included."""
    events: list[Event] = []
    try:
        async with aclosing(pandora.answer(asked)) as answer:
            async for batch in answer:
                events += batch
    except UpstreamError as error:
        events.append(error.failed)
    return events


def text(events: list[Event]) -> str:
    """The text of an answer for the user."""
    return "".join(e.text for e in events if isinstance(e, Delta) and e.kind == "text")


def code(events: list[Event]) -> str | None:
    """The code of the failure that ended an answer."""
    last = events[-1]
    return last.code if isinstance(last, Failed) else None
