"""Tables, which become cards on a narrow screen, and the small elements in their cells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

from html5tagger import HTML, Builder, E

from app.admin.page.look import Look

Cell = Builder | HTML | str
Tone = Literal["good", "warn", "bad", "held", "plain"]


class Column(NamedTuple):
    """Column of a table. `kind` is a class of its cells: `number`, `main` or `acts`."""

    label: str
    kind: str = ""


class Row(NamedTuple):
    """Row of a table. `key` is the same as long as the row is about the same thing."""

    key: str
    cells: Sequence[Cell]


def table(
    label: str, columns: Sequence[Column], rows: Iterable[Row], *, is_narrow: bool = False
) -> Builder:
    """Return a table; a narrow one fits into a narrow screen as it is."""
    head = (_head(column) for column in columns)
    # The tags of a column are made once: a table may have hundreds of cells.
    tags = [
        str(E.td("", class_=column.kind or None, data_label=column.label or None))
        for column in columns
    ]
    kind = "narrow" if is_narrow else "cards"
    body = HTML("".join(_row(tags, row) for row in rows))
    return E.table(E.thead(E.tr(*head)), E.tbody(body), aria_label=label, class_=kind)


def _head(column: Column) -> Builder:
    if not column.label:
        return E.td("")
    return E.th(column.label, scope="col", class_=column.kind or None)


def _row(tags: Sequence[str], row: Row) -> str:
    cells = (f"{tag}{html_of(cell)}" for tag, cell in zip(tags, row.cells, strict=True))
    return f"{E.tr('', data_key=row.key)}{''.join(cells)}"


def html_of(cell: Cell) -> str:
    """Return the HTML of a cell."""
    return str(cell if isinstance(cell, Builder | HTML) else escape(cell, quote=False))


def section(title: str, *content: Cell | None, aside: Cell | None = None) -> Builder:
    """Return a part of a view, with its heading."""
    head = E.div(E.h2(title), E.div(aside, class_="aside") if aside else None, class_="head")
    return E._(head, *content)


def empty(text: str) -> Builder:
    """Return the text that is shown instead of a table without rows."""
    return E.p(text, class_="empty")


def badge(text: str, tone: Tone, *more: Cell) -> Builder:
    """Return a state."""
    return E.span(text, *more, class_=f"badge {tone}")


def small(text: Cell) -> Builder:
    """Return a text of less importance."""
    return E.small(text)


def bar(part: float, whole: float) -> Builder:
    """Return a bar that shows a part of a whole. Its figures are in the text next to it."""
    width = round(100 * min(1.0, part / whole)) if whole else 0
    full = E.rect("", width=100, height=6, class_="track")
    filled = E.rect("", width=width, height=6, class_="full" if width == 100 else "part")
    return E.svg(
        full, filled, viewBox="0 0 100 6", preserveAspectRatio="none", class_="bar",
        aria_hidden="true",
    )  # fmt: skip


def link_button(text: str, href: str, tone: str = "", label: str = "") -> Builder:
    """Return a link to a page that asks before it acts; `label` names its subject."""
    return E.a(text, href=href, class_=f"button {tone}".rstrip(), aria_label=label or None)


def act_button(text: str, action: str, label: str = "") -> Builder:
    """Return a button that acts at once. It belongs to the form `act` of the page, which has the
    token of the session."""
    return E.button(text, form="act", formaction=action, aria_label=label or None)


def pages(
    look: Look, path: Sequence[str], offset: int, size: int, total: int, **query: str
) -> Cell:
    """Return the links to the pages before and after one."""
    if total <= size and not offset:
        return ""
    texts = look.texts
    links = []
    if offset:
        before = look.url(*path, **query, offset=max(0, offset - size))
        links.append(E.a(texts.earlier, href=before, rel="prev"))
    if offset + size < total:
        links.append(
            E.a(texts.later, href=look.url(*path, **query, offset=offset + size), rel="next")
        )
    last = min(offset + size, total)
    first = min(offset + 1, last)
    shown = texts.shown.format(first=f"{first:,}", last=f"{last:,}", total=f"{total:,}")
    return E.nav(E.span(shown), *links, class_="pages", aria_label=texts.shown.split("{")[0] or "-")
