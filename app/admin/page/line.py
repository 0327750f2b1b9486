"""View of the line: lanes, keys, running and waiting jobs, and why each of them waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

from html5tagger import HTML, Builder, E

from app.admin.page.formatting import NONE, count
from app.admin.page.look import Look
from app.admin.page.overview import flow_table
from app.admin.page.tables import (
    Cell,
    Column,
    Row,
    Tone,
    badge,
    bar,
    empty,
    link_button,
    pages,
    section,
    table,
)
from app.admin.page.trouble import resume_button
from wire.line.board import Board, BoardJob, BoardLane, Why

PAGE = 50
"""Jobs on one page of the view."""

WHY_TONES: dict[Why, Tone] = {
    "slot": "plain",
    "key": "plain",
    "account": "plain",
    "cooling": "warn",
    "parked": "warn",
    "paused": "held",
    "retry": "warn",
    "circuit": "bad",
    "no_worker": "bad",
    "settling": "warn",
}

KEPT = 2048
"""Elements that are kept as HTML: a job has the same ones in every rendering."""

Names = Mapping[str, str]
"""Names of keys, by their HMACs."""


def lanes(look: Look, board: Board) -> Builder:
    """Return the lanes that have jobs."""
    texts = look.texts
    columns = (
        Column(texts.lane, "main"),
        Column(texts.waiting, "number"),
        Column(texts.running, "number"),
        Column(texts.slots, "number"),
        Column(texts.keys_waiting, "number"),
        Column(texts.upstreams),
    )
    busy = [lane for lane in board.lanes if lane.waiting or lane.running]
    idle = len(board.lanes) - len(busy) + board.more_lanes
    rows = [Row(lane.lane, _lane_cells(look, lane)) for lane in busy]
    drawn = table(texts.lanes, columns, rows) if rows else empty(texts.no_jobs)
    aside = E.small(texts.idle_lanes.format(count(idle))) if idle else None
    return section(texts.lanes, drawn, aside=aside)


def _lane_cells(look: Look, lane: BoardLane) -> Sequence[Cell]:
    return (
        lane_name(look, lane.lane),
        count(lane.waiting),
        count(lane.running),
        E._(count(lane.slots), bar(lane.running, lane.slots)),
        count(lane.keys),
        ", ".join(lane.upstreams) or NONE,
    )


def lane_name(look: Look, lane: str) -> str:
    """Return a lane with the sort of its jobs in words."""
    sort, _, model = lane.partition(":")
    known = look.texts.lane_kinds.get(sort, sort)
    return f"{known} · {unquote(model)}" if model else known


def keys(look: Look, board: Board, names: Names, key: str = "") -> Builder:
    """Return the keys that have jobs, or the one whose jobs are shown."""
    texts = look.texts
    if key:
        everything = E.a(texts.all_keys, href=look.url("line"))
        acts = E._(_pausing(look, board, key), " ", everything)
        return section(f"{texts.key}: {names.get(key, key[:8])}", aside=acts)
    if not board.flows:
        return section(texts.by_key, empty(texts.nobody_waits))
    summary = E.summary(f"{texts.by_key} · {count(len(board.flows) + board.more_flows)}")
    flows = flow_table(look, board.flows, names)
    return E.details(summary, flows, _more(look, board.more_flows), class_="fold")


def _pausing(look: Look, board: Board, key: str) -> Builder:
    if any(pause.what == "key" and pause.name == key for pause in board.pauses):
        return resume_button(look, "key", key)
    return link_button(look.texts.actions["pause"], look.url("act", "pause", what="key", name=key))


def _more(look: Look, number: int) -> Builder | None:
    return E.p(E.small(look.texts.more.format(count(number)))) if number else None


def running(look: Look, board: Board, names: Names, key: str = "") -> Builder:
    """Return the running jobs, those of a key if one is given."""
    texts = look.texts
    jobs = [job for job in board.running if not key or job.key == key]
    total = count(len(jobs) if key else board.running_total)
    title = f"{texts.jobs_running} · {total}"
    if not jobs:
        return section(title, empty(texts.none_running))
    columns = (
        Column(texts.job, "main"),
        Column(texts.key),
        Column(texts.model, "long"),
        Column(texts.running_for, "number"),
        Column(texts.first_token, "number"),
        Column(texts.tokens, "number"),
        Column(texts.upstream),
        Column("", "acts one"),
    )
    rows = (Row(job.id, _running_cells(look, job, names)) for job in jobs[:PAGE])
    more = (
        _more(look, (len(jobs) if key else board.running_total) - PAGE)
        if len(jobs) > PAGE
        else None
    )
    return section(title, table(title, columns, rows), more)


def _running_cells(look: Look, job: BoardJob, names: Names) -> Sequence[Cell]:
    first = (
        None if job.first_token is None or job.claimed is None else job.first_token - job.claimed
    )
    return (
        job_link(look, job.id),
        key_link(look, job.key, names),
        model(job.model),
        look.age(job.claimed),
        look.short(first),
        count(job.tokens),
        place_of(job.upstream, job.account, job.key) or NONE,
        _cancel(look, job.id),
    )


def place_of(upstream: str, account: str, key: str) -> str:
    """Return the account of a job, whose name begins with its upstream, or only the upstream if the
    account is that of its key."""
    return account if account and account != key else upstream


def waiting(
    look: Look, jobs: Sequence[BoardJob], names: Names, total: int, links: Cell = ""
) -> Builder:
    """Return some of the waiting jobs."""
    texts = look.texts
    title = f"{texts.jobs_waiting} · {count(total)}"
    if not jobs:
        return section(title, empty(texts.none_waiting), aside=links)
    columns = (
        Column(texts.place, "number"),
        Column(texts.job, "main"),
        Column(texts.key),
        Column(texts.model, "long"),
        Column(texts.waited, "number"),
        Column(texts.forecast, "number"),
        Column(texts.why, "why"),
        Column("", "acts one"),
    )
    rows = (Row(job.id, _waiting_cells(look, job, names)) for job in jobs)
    return section(title, table(title, columns, rows), aside=links)


def next_links(look: Look, shown: int, total: int) -> Cell:
    """Return the note that those are shown that go next, and the link to all others."""
    if shown >= total:
        return ""
    everything = E.a(look.texts.by_arrival, href=look.url("line", by="arrival"))
    return E.nav(E.span(look.texts.next_ones), everything, class_="pages")


def page_links(look: Look, offset: int, total: int, **query: str) -> Cell:
    """Return the links to the pages before and after one."""
    return pages(look, ("line",), offset, PAGE, total, **query)


def _waiting_cells(look: Look, job: BoardJob, names: Names) -> Sequence[Cell]:
    tries = E.small(f" {look.texts.attempt} {len(job.requeues) + 1}") if job.requeues else ""
    return (
        count(job.place) if job.place else NONE,
        E._(job_link(look, job.id), tries),
        key_link(look, job.key, names),
        model(job.model),
        look.age(job.arrived),
        look.rough(job.wait),
        why(look, job),
        _cancel(look, job.id),
    )


def why(look: Look, job: BoardJob) -> Cell:
    """Return the reason for which a job waits, and the time until it is over."""
    if job.why is None:
        return NONE
    left = (" ", look.left(job.until)) if job.until else ()
    return badge(look.texts.whys[job.why], WHY_TONES[job.why], *left)


@lru_cache(KEPT)
def job_link(look: Look, id: str) -> HTML:
    """Return a link to the story of a job."""
    short = E.code(id.rpartition("-")[2][:12])
    return HTML(E.a(short, href=look.url("jobs", id), title=id))


def model(name: str) -> Cell:
    """Return the name of a model, which may be long."""
    return E.span(name, class_="clip", title=name) if len(name) > 24 else name


def key_link(look: Look, key: str, names: Names) -> HTML:
    """Return a link to the jobs of a key."""
    return _key_link(look, key, names.get(key, key[:8]))


@lru_cache(KEPT)
def _key_link(look: Look, key: str, name: str) -> HTML:
    return HTML(E.a(name, href=look.url("line", key=key)))


@lru_cache(KEPT)
def _cancel(look: Look, id: str) -> HTML:
    text = look.texts.actions["cancel"]
    return HTML(link_button(text, look.url("act", "cancel", id=id), label=f"{text} {id}"))
