"""Charts of figures over time, as SVG that scales with the page. Pure.

Text is HTML outside of the SVG, so that it keeps its size. A minute that was not recorded is a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from html5tagger import HTML, Builder, E

from app.admin.page.look import Look

HEIGHT = 100


class Series(NamedTuple):
    """One line of a chart. `kind` is its class: `main`, `second` or `limit`; `name` is empty if it
    is that of the chart."""

    name: str
    kind: str
    points: Sequence[float | None]


class Chart(NamedTuple):
    """Chart of one or more series with the same times. `write` writes a figure."""

    name: str
    series: Sequence[Series]
    write: Callable[[float], str]
    unit: str = ""
    is_time: bool = False


def figure(look: Look, chart: Chart, seconds: float) -> Builder:
    """Return a chart of the last seconds, the last point being now."""
    top = (time_ceiling if chart.is_time else ceiling)(max(_known(chart), default=0.0))
    plot = E.div(
        _svg(look, chart, top, seconds),
        E.span(chart.write(top), class_="top"),
        E.span(chart.write(top / 2), class_="middle"),
        class_="plot",
    )
    halfway, begin = (look.ago(past) for past in (seconds / 2, seconds))
    axis = E.div(E.span(begin), E.span(halfway), E.span(look.texts.now), class_="axis")
    axis_hidden = E.div(axis, aria_hidden="true")
    return E.figure(E.figcaption(E.h3(chart.name), _legend(chart)), plot, axis_hidden)


def ceiling(highest: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, ... that is not below a figure."""
    if highest <= 1:
        return 1.0
    power = float(10 ** math.floor(math.log10(highest)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest)


def time_ceiling(longest: float) -> float:
    """Return the round duration that is not below one in seconds."""
    return next((step for step in _ROUND if step >= longest), None) or 86_400 * ceiling(
        longest / 86_400
    )


_ROUND = (1.0, 2.0, 10.0, 20.0, 60.0, 120.0, 600.0, 1200.0, 3600.0, 7200.0, 36_000.0, 86_400.0)


def summary(look: Look, chart: Chart) -> str:
    """Describe a chart for those who cannot see it."""
    return "; ".join(_summary(look, chart, each) for each in chart.series)


def _summary(look: Look, chart: Chart, series: Series) -> str:
    name = f"{chart.name} ({series.name})" if series.name else chart.name
    known = [point for point in series.points if point is not None]
    if not known:
        return look.texts.chart_empty.format(name=name)
    now, low, high = (chart.write(each) for each in (known[-1], min(known), max(known)))
    return look.texts.chart_summary.format(name=name, now=now, low=low, high=high)


def _known(chart: Chart) -> Iterator[float]:
    return (point for each in chart.series for point in each.points if point is not None)


def _legend(chart: Chart) -> Builder:
    entries = []
    for series in chart.series:
        last = next((point for point in reversed(series.points) if point is not None), None)
        value = E.b(chart.write(last)) if last is not None else E.b("–")
        name = E.span(series.name, class_=f"key {series.kind}") if series.name else ""
        entries.append(E.span(name, " " if series.name else "", value))
    return E.div(*entries, E.small(chart.unit) if chart.unit else None, class_="legend")


def _svg(look: Look, chart: Chart, top: float, seconds: float) -> Builder:
    width = len(chart.series[0].points)
    grid = (E.path("", d=f"M0 {y}H{width}", class_="grid") for y in (0, HEIGHT / 2, HEIGHT))
    lines = (path for each in chart.series for path in _paths(each, top))
    return E.svg(
        *grid,
        *lines,
        *_tips(look, chart, seconds),
        viewBox=f"0 0 {width} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=summary(look, chart),
    )


def _paths(series: Series, top: float) -> Iterator[Builder]:
    for left, heights in _runs(series.points, top):
        right = left + len(heights)
        middles = (f"{left + number + 0.5} {y}" for number, y in enumerate(heights))
        line = "L".join((f"M{left} {heights[0]}", *middles, f"{right} {heights[-1]}"))
        if series.kind == "main":
            yield E.path("", d=f"{line}V{HEIGHT}H{left}Z", class_="area")
        yield E.path("", d=line, class_=f"line {series.kind}")


def _runs(points: Sequence[float | None], top: float) -> Iterator[tuple[int, list[float]]]:
    """Yield the runs of known points: the number of the first, and the heights of all."""
    for is_known, group in groupby(enumerate(points), lambda pair: pair[1] is not None):
        if is_known:
            run = list(group)
            yield run[0][0], [round(HEIGHT * (1 - (point or 0) / top), 1) for _, point in run]


def _tips(look: Look, chart: Chart, seconds: float) -> Iterator[HTML]:
    """Yield an area for each time, which a browser describes when it is pointed at."""
    number = len(chart.series[0].points)
    for at in range(number):
        figures = [
            f"{each.name} {chart.write(value)}".strip()
            for each in chart.series
            if (value := each.points[at]) is not None
        ]
        if figures:
            past = look.ago(seconds * (number - 1 - at) / number)
            text = E._(f"{past}: {', '.join(figures)}")
            yield HTML(
                f'<rect x="{at}" width="1" height="{HEIGHT}" class="tip">'
                f"<title>{text}</title></rect>"
            )
