"""Numbers and times as people read them, and elements that `admin.js` keeps up to date. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from html5tagger import HTML, E

KEPT = 2048
"""Times that are kept as HTML, as most are written again every second."""

NONE = "–"
"""Text of a figure that is not known."""


def duration(seconds: float, units: tuple[str, str, str, str]) -> str:
    """Write a duration with its two largest units: `3m 20s`. (`admin.js` does the same.)"""
    second, minute, hour, day = units
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}{second}"
    if whole < 3600:
        return f"{whole // 60}{minute} {whole % 60:02}{second}"
    if whole < 86_400:
        return f"{whole // 3600}{hour} {whole % 3600 // 60:02}{minute}"
    return f"{whole // 86_400}{day} {whole % 86_400 // 3600}{hour}"


def span(seconds: float, units: tuple[str, str, str, str]) -> str:
    """Write a round duration: `30m`, `1h`."""
    first, _, second = duration(seconds, units).partition(" ")
    return f"{first} {second}" if second.lstrip("0")[:1].isdecimal() else first


def short(seconds: float | None, units: tuple[str, str, str, str]) -> str:
    """Write a measured duration, with tenths if it is short."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f}{units[0]}"
    return span(seconds, units)


def rough(seconds: float | None, units: tuple[str, str, str, str]) -> str:
    """Write a forecast: it is not exact, and so changes rarely."""
    if seconds is None:
        return NONE
    for step, until in ((1, 10), (5, 60), (30, 600), (300, 7200)):
        if seconds < until:
            return f"≈ {duration(round(seconds / step) * step, units)}"
    return f"≈ {duration(round(seconds / 1800) * 1800, units)}"


def count(number: float) -> str:
    """Write a number: with separators, or, if it is small and not whole, with a decimal."""
    if number < 100 and number != int(number):
        return f"{number:.1f}"
    return f"{round(number):,}"


def size(number: int) -> str:
    """Write a number of bytes."""
    return f"{number / 2**20:,.0f} MB" if number < 2**30 else f"{number / 2**30:.1f} GB"


@lru_cache(KEPT)
def age(since: float | None, now: float | None, units: tuple[str, str, str, str]) -> HTML:
    """Time since a Unix time. Without `now` it is left to `admin.js`, so that it never changes."""
    if since is None:
        return HTML(NONE)
    text = "" if now is None else duration(now - since, units)
    return HTML(E.time(text, data_since=f"{since:.1f}", datetime=_iso(since)))


@lru_cache(KEPT)
def left(until: float | None, now: float | None, units: tuple[str, str, str, str]) -> HTML:
    """Time until a Unix time, likewise."""
    if until is None:
        return HTML(NONE)
    text = "" if now is None else duration(until - now, units)
    return HTML(E.time(text, data_until=f"{until:.1f}", datetime=_iso(until)))


@lru_cache(KEPT)
def clock(at: float | None, now: float | None) -> HTML:
    """Write a time of day, and the day if it is not that of `now`; `admin.js` makes it local."""
    if at is None:
        return HTML(NONE)
    moment = datetime.fromtimestamp(at, UTC)
    is_near = now is not None and abs(now - at) < 43_200
    text = f"{moment:%H:%M:%S} UTC" if is_near else f"{moment:%Y-%m-%d %H:%M} UTC"
    return HTML(E.time(text, data_at=f"{at:.1f}", datetime=_iso(at)))


def _iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
