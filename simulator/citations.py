"""`metadata.citations` for the markers in a text."""

from __future__ import annotations

import re

from simulator.events import Event
from simulator.steps import Text

_MARKER = re.compile("【(\\d+)(?::(\\d+))?†([^†【】]*)[^【】]*?】")
FORMAT = {"name": "tether_og", "regex": _MARKER.pattern}


def metadata(step: Text, text: str, *, finished: bool) -> Event:
    """Make the metadata of a text event for the markers that are complete in it."""
    if step.cite == "never" or (step.cite == "late" and not finished):
        return {}
    return {"citations": [_citation(step, found) for found in _MARKER.finditer(text)]}


def page(number: int) -> str:
    """Return the address that the marker of this number refers to."""
    return f"https://example.org/{number}"


def _citation(step: Text, found: re.Match[str]) -> Event:
    number = int(found[1])
    entry: Event = {
        "start_ix": found.start(),
        "end_ix": found.end(),
        "citation_format_type": "tether_og",
    }
    if step.cite == "invalid":
        return entry | {"invalid_reason": "cited message index is out of range"}
    extra = {
        "cited_message_idx": number,
        "search_result_idx": int(found[2]) if found[2] else None,
        "evidence_text": found[3],
    }
    if step.source == "file":
        source: Event = {"type": "file", "name": "a.pdf", "id": f"file-{number}"}
        source |= {"source": "my_files", "text": "The text of the page."}
    else:
        source = {"type": "webpage", "title": f"Page {number}", "url": page(number)}
        source |= {"text": "The text of the page.", "pub_date": None}
    return entry | {"metadata": source | {"extra": None if step.cite == "no_extra" else extra}}
