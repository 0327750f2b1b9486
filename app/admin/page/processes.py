"""View of the processes: workers, which can be drained, and front ends. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from html5tagger import Builder, E

from app.admin.page.formatting import NONE, count, size
from app.admin.page.look import Look
from app.admin.page.tables import Cell, Column, Row, badge, bar, empty, link_button, section, table
from wire.line.processes import ProcessFigures

SLOW = 0.25
"""Lag of an event loop, in seconds, that deserves attention."""


def workers(look: Look, processes: Sequence[ProcessFigures]) -> Builder:
    """Return the workers."""
    texts = look.texts
    found = [each for each in processes if each.role == "worker"]
    if not found:
        return section(texts.workers, empty(texts.no_worker))
    columns = (*_columns(look), Column(texts.jobs, "number"), Column(texts.upstreams), _ACTS)
    rows = (Row(each.id, (*_cells(look, each), *_work(look, each))) for each in found)
    return section(texts.workers, table(texts.workers, columns, rows))


def front_ends(look: Look, processes: Sequence[ProcessFigures]) -> Builder:
    """Return the front ends."""
    texts = look.texts
    found = [each for each in processes if each.role == "front_end"]
    if not found:
        return section(texts.front_ends, empty(texts.no_processes))
    columns = (*_columns(look), Column(texts.streams, "number"))
    rows = (Row(each.id, (*_cells(look, each), count(each.streams))) for each in found)
    return section(texts.front_ends, table(texts.front_ends, columns, rows))


_ACTS = Column("", "acts one")


def _columns(look: Look) -> tuple[Column, ...]:
    texts = look.texts
    return (
        Column(texts.process, "main"),
        Column(texts.host),
        Column(texts.started, "number"),
        Column(texts.memory, "number"),
        Column(texts.lag, "number"),
        Column(texts.open_files, "number"),
    )


def _cells(look: Look, each: ProcessFigures) -> tuple[Cell, ...]:
    draining = badge(look.texts.draining, "held") if each.draining else ""
    lag = f"{each.lag * 1000:.0f} ms"
    return (
        E._(E.code(each.id), " ", draining),
        E._(each.host, " ", E.small(each.pid)),
        look.age(each.started),
        size(each.memory) if each.memory else NONE,
        badge(lag, "warn") if each.lag >= SLOW else lag,
        count(each.open_files),
    )


def _work(look: Look, each: ProcessFigures) -> tuple[Cell, ...]:
    text = look.texts.actions["drain"]
    address = look.url("act", "drain", worker=each.id)
    drain = "" if each.draining else link_button(text, address, label=f"{text} {each.id}")
    most = each.max_jobs * max(1, len(each.upstreams))
    jobs = E._(f"{each.jobs} / {most}", bar(each.jobs, most)) if most else count(each.jobs)
    return jobs, ", ".join(each.upstreams) or NONE, drain
