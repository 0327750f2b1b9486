"""Look of one page: its language, its address, and the time by which ages are written. Pure."""

from __future__ import annotations

from typing import Literal, get_args
from urllib.parse import quote, urlencode

import msgspec
from html5tagger import HTML

from app.admin.page import formatting
from app.admin.page.texts import Language, Texts, texts_of

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)


class Look(msgspec.Struct, frozen=True):
    """Language, address and time of a page.

    `base` is the path of the overview. Without `now`, a Unix time, ages and remaining times are
    left to `admin.js`: so a part of the page changes only when something has happened.
    """

    language: Language
    base: str
    now: float | None = None

    @property
    def texts(self) -> Texts:
        """The texts in its language."""
        return texts_of(self.language)

    def url(self, *path: str, **query: str | int) -> str:
        """Return the address of a view or action."""
        address = "/".join((self.base, *(quote(part, safe="") for part in path if part)))
        given = {name: value for name, value in query.items() if value not in ("", 0)}
        return f"{address}?{urlencode(given)}" if given else address

    def age(self, since: float | None) -> HTML:
        """Time since a Unix time."""
        return formatting.age(since, self.now, self.texts.units)

    def left(self, until: float | None) -> HTML:
        """Time until a Unix time."""
        return formatting.left(until, self.now, self.texts.units)

    def clock(self, at: float | None) -> HTML:
        """Time of day."""
        return formatting.clock(at, self.now)

    def ago(self, seconds: float) -> str:
        """Past time, by its distance from now."""
        return self.texts.ago.format(formatting.span(seconds, self.texts.units))

    def short(self, seconds: float | None) -> str:
        """Measured duration."""
        return formatting.short(seconds, self.texts.units)

    def rough(self, seconds: float | None) -> str:
        """Forecast of a duration."""
        return formatting.rough(seconds, self.texts.units)
