"""View of everything at a glance: figures, trouble, keys with jobs, and the history. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from html5tagger import Builder, E

from app.admin.page.charts import Chart, Series, figure
from app.admin.page.formatting import count
from app.admin.page.look import Look
from app.admin.page.tables import Cell, Column, Row, bar, empty, link_button, section, table
from app.admin.page.trouble import troubles
from wire.line.board import Board, BoardFlow
from wire.line.history import FIRST_TOKENS, WAITS, Minute, quantile, total

FLOWS = 10
"""Keys that are shown: those with the most jobs."""


class Range(msgspec.Struct, frozen=True):
    """Time shown by the charts: a number of points, each of some minutes."""

    name: str
    points: int
    minutes: int

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.points * self.minutes * 60


HOUR = Range("hour", 60, 1)
DAY = Range("day", 144, 10)


class Point(msgspec.Struct, frozen=True):
    """Figures of one point of the charts. Waits are in seconds, refusals per minute."""

    running: float
    slots: float
    waiting: float
    tokens: float
    refusals: float
    median: float | None
    p95: float | None
    first: float | None
    first_p95: float | None


def points(minutes: Sequence[Minute], shown: Range, now: float) -> list[Point | None]:
    """Return the points of a time that ends now; None for one of which nothing was recorded."""
    length = 60 * shown.minutes
    last = (int(now) // 60 * 60 - 1) // length  # the present minute is not over
    found: dict[int, list[Minute]] = {}
    for minute in minutes:
        # A minute is recorded at its end.
        found.setdefault(shown.points - 1 - (last - (minute.at - 1) // length), []).append(minute)
    return [_point(found[at]) if at in found else None for at in range(shown.points)]


def _point(minutes: Sequence[Minute]) -> Point:
    counted, seconds = total(minutes), sum(minute.seconds for minute in minutes)
    return Point(
        running=_mean([minute.running for minute in minutes]),
        slots=_mean([minute.slots for minute in minutes]),
        waiting=_mean([minute.waiting for minute in minutes]),
        tokens=counted.output_tokens / seconds,
        refusals=60 * sum(counted.refusals.values()) / seconds,
        median=quantile(0.5, counted.waits, WAITS),
        p95=quantile(0.95, counted.waits, WAITS),
        first=quantile(0.5, counted.first_tokens, FIRST_TOKENS),
        first_p95=quantile(0.95, counted.first_tokens, FIRST_TOKENS),
    )


def _mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures)


def figures(look: Look, board: Board, hour: Sequence[Minute], oldest: float | None) -> Builder:
    """Return the figures of now and of the last hour; `oldest` is the arrival of the job that has
    waited longest."""
    texts = look.texts
    counted = total(hour)
    refused = sum(counted.refusals.values())
    asked = refused + counted.accepted
    newest = hour[-1] if hour else None
    tiles = (
        _tile(
            texts.running,
            count(board.running_total),
            texts.of_slots.format(count(board.slots)) if board.slots else texts.no_slots,
            bar(board.running_total, board.slots),
        ),
        _tile(
            texts.waiting,
            count(board.waiting_total),
            E._(f"{texts.oldest} ", look.age(oldest)) if oldest else "",
        ),
        _tile(texts.wait_p50, look.short(quantile(0.5, counted.waits, WAITS)), texts.last_hour),
        _tile(texts.wait_p95, look.short(quantile(0.95, counted.waits, WAITS)), texts.last_hour),
        _tile(
            texts.tokens_per_second,
            count(newest.output_tokens / newest.seconds) if newest else "–",
            look.clock(newest.at) if newest else "",
        ),
        _tile(
            texts.refusals,
            count(refused),
            texts.refused_of.format(count(round(100 * refused / asked, 1)))
            if asked
            else texts.last_hour,
        ),
    )
    return E.dl(*tiles, class_="tiles")


def _tile(name: str, value: str, note: Cell, more: Cell | None = None) -> Builder:
    return E.div(E.dt(name), E.dd(E.strong(value), E.small(note), more))


def attention(look: Look, board: Board, names: Mapping[str, str]) -> Builder:
    """Return everything that keeps jobs from being served."""
    texts = look.texts
    found = troubles(look, board, names)
    aside = None
    if not any(pause.what == "all" for pause in board.pauses):
        aside = link_button(texts.actions["pause_all"], look.url("act", "pause", what="all"))
    content = E.ul(*found, class_="troubles") if found else E.p(texts.no_trouble, class_="calm")
    return section(texts.trouble, content, aside=aside)


def who(look: Look, board: Board, names: Mapping[str, str]) -> Builder:
    """Return the keys with the most jobs."""
    texts = look.texts
    more = E.a(texts.all_waiting, href=look.url("line"))
    if not board.flows:
        return section(texts.who_waits, empty(texts.nobody_waits))
    return section(texts.who_waits, flow_table(look, board.flows[:FLOWS], names), aside=more)


def flow_table(look: Look, flows: Sequence[BoardFlow], names: Mapping[str, str]) -> Builder:
    """Return keys with their jobs."""
    texts = look.texts
    columns = (
        Column(texts.key, "main"),
        Column(texts.waiting, "number"),
        Column(texts.running, "number"),
        Column(texts.oldest.capitalize(), "number"),
    )
    rows = (
        Row(
            flow.key,
            (
                E._(
                    E.a(
                        names.get(flow.key, flow.key[:8]),
                        href=look.url("line", key=flow.key),
                    ),
                    f" ({texts.paused})" if flow.paused else "",
                ),
                count(flow.waiting),
                count(flow.running),
                look.age(flow.oldest),
            ),
        )
        for flow in flows
    )
    return table(texts.who_waits, columns, rows, is_narrow=True)


def history(look: Look, minutes: Sequence[Minute], shown: Range, now: float) -> Builder:
    """Return the charts."""
    texts = look.texts
    links = (
        E.a(
            label,
            href=look.url(range="" if name == "hour" else name) + "#history",
            aria_current="true" if name == shown.name else None,
        )
        for name, label in (("hour", texts.last_hour), ("day", texts.last_day))
    )
    switch = E.nav(*links, class_="switch", aria_label=texts.chart_range)
    drawn = (
        figure(look, chart, shown.seconds) for chart in _charts(look, points(minutes, shown, now))
    )
    return section(texts.charts, E.div(*drawn, class_="charts"), aside=switch)


def _charts(look: Look, shown: Sequence[Point | None]) -> Iterator[Chart]:
    texts = look.texts

    def series(field: str, kind: str, name: str = "") -> Series:
        return Series(name, kind, [getattr(point, field, None) for point in shown])

    yield Chart(
        texts.running,
        (series("running", "main", texts.running), series("slots", "limit", texts.slots)),
        count,
    )
    yield Chart(texts.waiting, (series("waiting", "main"),), count)
    waits = (series("p95", "main", texts.p95), series("median", "second", texts.median))
    yield Chart(texts.waited, waits, look.short, is_time=True)
    yield Chart(texts.tokens_per_second, (series("tokens", "main"),), count)
    first = (series("first_p95", "main", texts.p95), series("first", "second", texts.median))
    yield Chart(texts.first_token, first, look.short, is_time=True)
    yield Chart(texts.refusals, (series("refusals", "main"),), count, texts.per_minute)
