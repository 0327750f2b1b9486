"""The sources of citation marks, read from the metadata of their message.

Shapes after upstream-protocol.md, 3.6 and 6. They come undecoded, because so much in them may be
missing or null: an odd entry must not lose the event that carries it.
"""

from __future__ import annotations

import msgspec

from workers.pandora.translate.links import link_target, web_url
from workers.pandora.translate.markers import CitationMark
from workers.pandora.translate.records import Metadata


class Source(msgspec.Struct, frozen=True):
    """A source that a message names; without a `url` it is a file, not on the web, or not found."""

    url: str | None
    number: str = ""
    result: str = ""
    at: int | None = None
    matched: str = ""

    def fits(self, mark: CitationMark) -> bool:
        """True if it may be the mark's source."""
        if self.matched or not mark.number:
            return self.matched == mark.text
        if not self.number:
            return self.at == mark.at
        either_whole = not (self.result and mark.result)
        return self.number == mark.number and (either_whole or self.result == mark.result)


def find_source(sources: list[Source], mark: CitationMark) -> Source | None:
    """The source of a mark; None if it is not known, or not yet."""
    fitting = [source for source in sources if source.fits(mark)]
    exact = [source for source in fitting if source.at == mark.at]
    return next(iter(exact or fitting), None)


def read_sources(metadata: Metadata | None) -> list[Source]:
    """The sources that a message's metadata names."""
    if metadata is None:
        return []
    sources = []
    for entry in _dicts(metadata.citations):
        about = entry.get("metadata")
        about = about if isinstance(about, dict) else {}
        extra = about.get("extra")
        extra = extra if isinstance(extra, dict) else {}
        number = _index(extra.get("cited_message_idx"))
        result = _index(extra.get("search_result_idx"))
        at = entry.get("start_ix")
        place = at if isinstance(at, int) else None
        sources.append(Source(_link(about.get("url")), number, result, place))
    for entry in _dicts(metadata.content_references):
        matched = entry.get("matched_text")
        if isinstance(matched, str) and matched:
            sources.append(Source(_reference_url(entry), matched=matched))
    return sources


def _reference_url(entry: dict[str, object]) -> str | None:
    safe = entry.get("safe_urls")
    urls = [entry.get("url"), *(item.get("url") for item in _dicts(entry.get("items")))]
    urls += safe if isinstance(safe, list) else []
    return next(filter(None, map(_link, urls)), None)


def _dicts(value: object) -> list[dict[str, object]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _index(value: object) -> str:
    return str(value) if isinstance(value, int | str) else ""


def _link(value: object) -> str | None:
    url = web_url(value)
    return link_target(url) if url else None
