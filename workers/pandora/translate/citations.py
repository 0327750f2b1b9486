"""The sources of citation marks, read from the metadata of their message.

Shapes after upstream-protocol.md, 3.6 and 6. They come undecoded, because so much in them may be
missing or null: an odd entry must not lose the event that carries it.
"""

from __future__ import annotations

from operator import itemgetter

import msgspec

from workers.pandora.translate.links import link_target, web_url
from workers.pandora.translate.markers import CitationMark
from workers.pandora.translate.records import Metadata

MOST_SOURCES = 1000
"""Entries of each list that are read: each record of a message repeats all of them."""

_ANY = "*"
"""Any search result, or none."""

_Key = tuple[str | int | None, ...]
_Entry = dict[str, object]


class Source(msgspec.Struct, frozen=True, gc=False):
    """A source that a message names; without a `url` it is a file, not on the web, or not found."""

    url: str | None


class Sources:
    """The sources of one message, the first of each kind, found without looking at the others.

    A source is named by a mark's text; by its number, and perhaps the number of a search result; or
    by its place in the text. A place settles what is named more than once.
    """

    def __init__(self, metadata: Metadata | None) -> None:
        self._found: dict[_Key, tuple[int, _Entry]] = {}
        self._cited: dict[int, Source] = {}  # links are read once, when they are cited
        if metadata is not None:
            for order, entry in enumerate(_dicts(metadata.citations)):
                self._add_citation(order, entry)
            for order, entry in enumerate(_dicts(metadata.content_references), MOST_SOURCES):
                matched = entry.get("matched_text")
                if isinstance(matched, str) and matched:
                    self._add((matched,), order, entry)

    def find(self, mark: CitationMark) -> Source | None:
        """Return the source of a mark; None if it is not known, or not yet."""
        if not mark.number:
            return self._first((mark.text,))
        results = (mark.result, "") if mark.result else (_ANY,)
        numbers = [(mark.number, result) for result in results]
        exact = self._first((mark.at,), *((*number, mark.at) for number in numbers))
        return exact or self._first((mark.text,), *numbers)

    def _add_citation(self, order: int, entry: _Entry) -> None:
        extra = _dict(_dict(entry.get("metadata")).get("extra"))
        number = _index(extra.get("cited_message_idx"))
        result = _index(extra.get("search_result_idx"))
        at = entry.get("start_ix")
        if not number:
            self._add((at if isinstance(at, int) else None,), order, entry)
            return
        for either in (result, _ANY):
            self._add((number, either), order, entry)
            if isinstance(at, int):
                self._add((number, either, at), order, entry)

    def _add(self, key: _Key, order: int, entry: _Entry) -> None:
        self._found.setdefault(key, (order, entry))

    def _first(self, *keys: _Key) -> Source | None:
        found = [self._found[key] for key in keys if key in self._found]
        if not found:
            return None
        order, entry = min(found, key=itemgetter(0))
        if order not in self._cited:
            url = _citation_url if order < MOST_SOURCES else _reference_url
            self._cited[order] = Source(url(entry))
        return self._cited[order]


def _citation_url(entry: _Entry) -> str | None:
    return _link(_dict(entry.get("metadata")).get("url"))


def _reference_url(entry: _Entry) -> str | None:
    safe = entry.get("safe_urls")
    urls = [entry.get("url"), *(item.get("url") for item in _dicts(entry.get("items")))]
    urls += safe if isinstance(safe, list) else []
    return next(filter(None, map(_link, urls)), None)


def _dict(value: object) -> _Entry:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[_Entry]:
    entries = value[:MOST_SOURCES] if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _index(value: object) -> str:
    return str(value) if isinstance(value, int | str) else ""


def _link(value: object) -> str | None:
    url = web_url(value)
    return link_target(url) if url else None
