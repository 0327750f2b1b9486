"""View of the gateway keys: what each uses, what it may use, and what an operator can do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec
from html5tagger import HTML, Builder, E

from app.admin.ledger import KeyEntry
from app.admin.page.formatting import NONE, count
from app.admin.page.look import Look
from app.admin.page.tables import (
    Cell,
    Column,
    Row,
    Tone,
    badge,
    empty,
    link_button,
    pages,
    section,
    table,
)
from app.admin.page.trouble import resume_button

PAGE = 50
"""Keys on one page of the view."""

KEPT = 512
"""Keys whose buttons are kept as HTML."""

KeyState = Literal["active", "paused", "expired", "revoked"]
TONES: Mapping[KeyState, Tone] = {
    "active": "good",
    "paused": "held",
    "expired": "warn",
    "revoked": "bad",
}


class KeyRow(msgspec.Struct, frozen=True):
    """A gateway key, its name on the board, and the numbers of its jobs."""

    entry: KeyEntry
    key: str
    waiting: int
    running: int
    is_paused: bool

    def state(self, now: float) -> KeyState:
        """Return its state at a Unix time."""
        if self.entry.revoked:
            return "revoked"
        if 0 < self.entry.expires <= now:
            return "expired"
        return "paused" if self.is_paused else "active"


def found(entries: Sequence[KeyEntry], wanted: str) -> list[KeyEntry]:
    """Return the keys whose name or id has a text in it: those that have used the most today come
    first, revoked ones last."""
    text = wanted.strip().casefold()
    fitting = [one for one in entries if text in one.name.casefold() or text in one.id]
    return sorted(fitting, key=lambda one: (bool(one.revoked), -_used(one), -one.created, one.id))


def _used(entry: KeyEntry) -> float:
    return entry.today.get("input_tokens", 0.0) + entry.today.get("output_tokens", 0.0)


def search(look: Look, wanted: str) -> Builder:
    """Return the form that finds keys, and the link to a new one."""
    texts = look.texts
    return E.div(
        E.form(
            E.label(texts.search, for_="wanted"),
            E.input(
                id="wanted",
                name="q",
                value=wanted,
                type="search",
                placeholder=texts.search_keys,
                maxlength=100,
            ),
            E.button(texts.search),
            action=look.url("keys"),
            role="search",
            class_="search",
        ),
        link_button(texts.new_key, look.url("act", "issue"), "primary"),
        class_="head",
    )


def keys(
    look: Look, rows: Sequence[KeyRow], now: float, total: int, offset: int = 0, wanted: str = ""
) -> Builder:
    """Return a page of the keys."""
    texts = look.texts
    title = f"{texts.views['keys']} · {count(total)}"
    if not rows:
        return section(title, empty(texts.none_found if wanted else texts.no_keys))
    columns = (
        Column(texts.key_name, "main"),
        Column(texts.state),
        Column(texts.waiting, "number"),
        Column(texts.running, "number"),
        Column(f"{texts.usage_today}: {texts.requests}", "number"),
        Column(texts.input_tokens, "number"),
        Column(texts.output_tokens, "number"),
        Column(texts.limits, "long"),
        Column("", "acts"),
    )
    drawn = (Row(row.entry.id, _cells(look, row, now)) for row in rows)
    links = pages(look, ("keys",), offset, PAGE, total, q=wanted)
    return section(title, table(title, columns, drawn), aside=links)


def _cells(look: Look, row: KeyRow, now: float) -> Sequence[Cell]:
    entry, used = row.entry, row.entry.today
    state = row.state(now)
    name = E.a(entry.name, href=look.url("line", key=row.key))
    return (
        E._(name, " ", E.small(E.code(entry.id))),
        badge(look.texts.key_states[state], TONES[state]),
        count(row.waiting),
        count(row.running),
        count(used.get("requests", 0)),
        count(used.get("input_tokens", 0)),
        count(used.get("output_tokens", 0)),
        E.small(", ".join(limits(look, entry)) or look.texts.no_limits),
        _acts(look, entry.id, entry.name, row.is_paused) if not entry.revoked else NONE,
    )


def limits(look: Look, entry: KeyEntry) -> Iterator[str]:
    """Yield the limits of a key that are not those of a new one, in words."""
    fields, unit = look.texts.fields, str(entry.limits.get("budget_unit", ""))
    for field in _LIMITS:
        value = entry.limits.get(field)
        if value in _NO_LIMIT.get(field, (None, 0)):
            continue
        text = count(value) if isinstance(value, int | float) else str(value)
        if field == "budget_day":
            spent = sum(entry.today.get(each, 0.0) for each in _SPENT.get(unit, ()))
            text = f"{count(spent)} / {text}"
        yield f"{fields[field]} {text}{f' {unit}' if field.startswith('budget') else ''}"
    models = entry.limits.get("models")
    if isinstance(models, list | tuple) and models:
        yield ", ".join(map(str, models))
    if entry.expires:
        yield f"{fields['expires']} {date_of(entry.expires)}"


_LIMITS = (
    "weight",
    "priority",
    "max_running",
    "max_waiting",
    "requests_per_minute",
    "budget_day",
    "budget_month",
    "max_wait",
)
_NO_LIMIT: Mapping[str, tuple[object, ...]] = {
    "weight": (None, 1),
    "priority": (None, "priority"),
    "max_wait": (None,),
}
_SPENT = {
    "units": ("units",),
    "tokens": ("input_tokens", "output_tokens"),
    "requests": ("requests",),
}


def date_of(at: int) -> str:
    """Return the day of a Unix time, in UTC; empty for 0."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" if at else ""


@lru_cache(KEPT)
def _acts(look: Look, id: str, name: str, is_paused: bool) -> HTML:
    acts = look.texts.actions
    pausing = (
        resume_button(look, "key", id)
        if is_paused
        else _link(acts["pause"], look.url("act", "pause", what="key", name=id), name)
    )
    changing = _link(acts["change"], look.url("act", "change", id=id), name)
    revoking = _link(acts["revoke"], look.url("act", "revoke", id=id), name, "danger")
    return HTML(f"{pausing} {changing} {revoking}")


def _link(text: str, address: str, name: str, tone: str = "") -> Builder:
    return link_button(text, address, tone, label=f"{text} {name}")
