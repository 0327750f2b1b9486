"""The views, each of some regions, and their rendering: once for all readers of a process."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from html5tagger import Builder, E
from msgspec import Meta

from app.admin.boards import NamedBoard, RedisGone, Unreadable
from app.admin.page import audit, jobs, keys, line, overview, processes, trouble, upstreams
from app.admin.page.layout import notice
from app.admin.page.look import Look
from app.admin.page.overview import DAY, HOUR
from app.admin.page.texts import Language
from app.admin.sources import Sources
from wire.line.board import BoardJob
from wire.line.history import Minute

View = Literal["overview", "line", "keys", "upstreams", "processes", "jobs", "job", "audit"]
VIEWS: tuple[View, ...] = get_args(View)

ENDINGS = 50
"""Latest endings that are shown."""

ENTRIES = 100
"""Latest entries of the audit log that are shown."""

KEPT = 64
"""Renderings that are kept: one for each view, language and part of a long list."""


class Asked(msgspec.Struct, frozen=True):
    """A view and the part of it that is asked for.

    `q` is a search, `range` the time of the charts, and `by` the order of waiting jobs.
    """

    view: View = "overview"
    id: Annotated[str, Meta(max_length=200)] = ""
    key: Annotated[str, Meta(max_length=64)] = ""
    q: Annotated[str, Meta(max_length=100)] = ""
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    range: Literal["hour", "day"] = "hour"
    by: Literal["turn", "arrival"] = "turn"


class Region(NamedTuple):
    """Part of a view that changes by itself. `kind` is its class."""

    id: str
    kind: str
    html: str = ""


Regions = Sequence[Region]

PULSE = 4.0
"""Seconds after which a stream in which nothing changes shows that it is alive."""

NOTICES = Region("notices", "")
"""Region that every view begins with."""

_REGIONS: Mapping[View, Regions] = {
    "overview": (
        Region("figures", ""),
        Region("attention", "card half"),
        Region("who", "card half"),
        Region("history", "card"),
    ),
    "line": (
        Region("lanes", "card"),
        Region("flows", "card"),
        Region("running", "card"),
        Region("waiting", "card"),
    ),
    "keys": (Region("keys", "card"),),
    "upstreams": (Region("upstreams", ""), Region("own", "card")),
    "processes": (Region("workers", "card"), Region("front_ends", "card")),
    "jobs": (Region("endings", "card"),),
    "job": (Region("story", "card"),),
    "audit": (Region("entries", "card"),),
}


def regions_of(view: View) -> Regions:
    """Return the regions of a view, without their HTML."""
    return (NOTICES, *_REGIONS[view])


class _Shown:
    """The last rendering of a view for one board."""

    def __init__(self) -> None:
        self.board: NamedBoard | None = None
        self.regions: Regions = ()
        self.lock = asyncio.Lock()


class Views:
    """Renders views."""

    def __init__(self, sources: Sources) -> None:
        self.boards = sources.boards
        self._sources = sources
        self._shown: OrderedDict[tuple[Asked, Look], _Shown] = OrderedDict()
        self._charts: dict[tuple[Language, str], tuple[Sequence[Minute], int, str]] = {}
        self._renderers: Mapping[View, Callable[[Look, Asked, NamedBoard], Awaitable[Drawn]]] = {
            "overview": self._overview,
            "line": self._line,
            "keys": self._keys,
            "upstreams": self._upstreams,
            "processes": self._processes,
            "jobs": self._jobs,
            "job": self._job,
            "audit": self._audit,
        }

    async def rendered(self, look: Look, asked: Asked, board: NamedBoard) -> Regions:
        """Return the regions of a view with their HTML.

        Raises:
            RedisGone: Redis cannot be used.
        """
        shown = self._shown.setdefault((asked, look), _Shown())
        self._shown.move_to_end((asked, look))
        while len(self._shown) > KEPT:
            self._shown.popitem(last=False)
        async with shown.lock:
            if shown.board is not board:
                shown.regions = await self._render(look, asked, board)
                shown.board = board
        return shown.regions

    async def changes(self, look: Look, asked: Asked) -> AsyncGenerator[bytes]:
        """Yield events with the regions that have changed, and at times one without any."""
        sent: dict[str, str] = {}
        spoken = 0.0
        async with aclosing(self.boards.changes()) as boards:
            async for board in boards:
                drawn = await self._regions(look, asked, board)
                new = {each.id: each.html for each in drawn if sent.get(each.id) != each.html}
                sent |= new
                now = time.time()
                if new or now - spoken >= PULSE:
                    spoken = now
                    data = msgspec.json.encode({"at": now, "regions": new})
                    yield b"event: regions\ndata: %b\n\n" % data

    async def _regions(self, look: Look, asked: Asked, board: NamedBoard | Unreadable) -> Regions:
        try:
            if isinstance(board, NamedBoard):
                return await self.rendered(look, asked, board)
        except RedisGone:
            pass
        return [NOTICES._replace(html=str(gone(look)))]

    async def _render(self, look: Look, asked: Asked, board: NamedBoard) -> Regions:
        drawn: dict[str, Builder | str] = {NOTICES.id: _notices(look, board)}
        drawn |= await self._renderers[asked.view](look, asked, board)
        return [region._replace(html=str(drawn[region.id])) for region in regions_of(asked.view)]

    async def _overview(self, look: Look, asked: Asked, board: NamedBoard) -> Drawn:
        minutes = await self._sources.history()
        hour = [minute for minute in minutes[-60:] if minute.at > board.at - 3660]
        first = await self._sources.waiting(0, 1, "") if board.waiting_total else []
        return {
            "figures": overview.figures(look, board, hour, first[0].arrived if first else None),
            "attention": overview.attention(look, board, board.names),
            "who": overview.who(look, board, board.names),
            "history": self._history(look, asked, minutes, board.at),
        }

    def _history(self, look: Look, asked: Asked, minutes: Sequence[Minute], at: float) -> str:
        """Return the charts, which are the same for a minute."""
        name, minute = (look.language, asked.range), int(at) // 60
        of, drawn_at, html = self._charts.get(name, ((), 0, ""))
        if of is not minutes or drawn_at != minute:
            html = str(overview.history(look, minutes, DAY if asked.range == "day" else HOUR, at))
            self._charts[name] = minutes, minute, html
        return html

    async def _line(self, look: Look, asked: Asked, board: NamedBoard) -> Drawn:
        key, names = asked.key, board.names
        if key or asked.by == "arrival":
            jobs: Sequence[BoardJob] = await self._sources.waiting(asked.offset, line.PAGE, key)
            names = await self._sources.names(board, jobs)
            total = _total(board, asked, len(jobs))
            links = line.page_links(look, asked.offset, total, key=key, by="" if key else "arrival")
        else:
            jobs, total = board.waiting, max(board.waiting_total, len(board.waiting))
            links = line.next_links(look, len(jobs), total)
        return {
            "lanes": line.lanes(look, board),
            "flows": line.keys(look, board, names, key),
            "running": line.running(look, board, names, key),
            "waiting": line.waiting(look, jobs, names, total, links),
        }

    async def _keys(self, look: Look, asked: Asked, board: NamedBoard) -> Drawn:
        entries = keys.found((await self._sources.ledger()).keys, asked.q)
        shown = entries[asked.offset : asked.offset + keys.PAGE]
        names = [self._sources.hmac_of(entry.id) for entry in shown]
        jobs = await self._sources.jobs_of(names)
        paused = {pause.name for pause in board.pauses if pause.what == "key"}
        rows = [
            keys.KeyRow(entry, name, waiting, running, name in paused)
            for entry, name, (waiting, running) in zip(shown, names, jobs, strict=True)
        ]
        drawn = keys.keys(look, rows, board.at, len(entries), asked.offset, asked.q)
        return {"keys": drawn}

    async def _upstreams(self, look: Look, _: Asked, board: NamedBoard) -> Drawn:
        return {
            "upstreams": upstreams.upstreams(look, board),
            "own": upstreams.own_accounts(look, board, board.names),
        }

    async def _processes(self, look: Look, _: Asked, board: NamedBoard) -> Drawn:
        return {
            "workers": processes.workers(look, board.processes),
            "front_ends": processes.front_ends(look, board.processes),
        }

    async def _jobs(self, look: Look, _: Asked, board: NamedBoard) -> Drawn:
        stories = await self._sources.endings(ENDINGS)
        return {"endings": jobs.endings(look, stories, await self._sources.names(board, stories))}

    async def _job(self, look: Look, asked: Asked, board: NamedBoard) -> Drawn:
        story = await self._sources.story(asked.id)
        names = await self._sources.names(board, [story] if story else [])
        return {"story": jobs.story(look, story, names)}

    async def _audit(self, look: Look, _: Asked, __: NamedBoard) -> Drawn:
        entries = await self._sources.audit(ENTRIES)
        names = {key.id: key.name for key in (await self._sources.ledger()).keys}
        return {"entries": audit.audit(look, entries, names)}


Drawn = Mapping[str, Builder | str]


def _total(board: NamedBoard, asked: Asked, shown: int) -> int:
    """Return the number of waiting jobs, in all or of a key; of a key with few jobs it is at least
    the number known."""
    known = asked.offset + shown + (shown == line.PAGE)
    if not asked.key:
        return max(board.waiting_total, asked.offset + shown)
    flow = next((flow for flow in board.flows if flow.key == asked.key), None)
    return max(flow.waiting, asked.offset + shown) if flow else known


def _notices(look: Look, board: NamedBoard) -> Builder:
    """Return the pause of the whole intake, which no view hides."""
    pauses = [pause for pause in board.pauses if pause.what == "all"]
    parts = (trouble.pause_line(look, pause, board.names) for pause in pauses)
    return E._(*(notice(E.span(*part)) for part in parts), "")


def gone(look: Look) -> Builder:
    """Return the notice that Redis cannot be used."""
    return notice(look.texts.redis_gone, "bad")
