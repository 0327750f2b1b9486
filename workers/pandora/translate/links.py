"""URLs from the upstream that may become links in an answer. Pure.

Clients render an answer as HTML: a `javascript:` URL would run there, and a URL that leaves its
parentheses would begin a link of its own.
"""

from __future__ import annotations

import re

_LONGEST = 8192
_WEB = re.compile(r"https?://[^\s\x00-\x1f\x7f<>\\]+", re.IGNORECASE)


def web_url(value: object) -> str | None:
    """Return an http(s) URL as it is; None for anything else."""
    if isinstance(value, str) and len(value) <= _LONGEST and _WEB.fullmatch(value):
        return value
    return None


def link_target(url: str) -> str:
    """Return a `web_url` as the target of a Markdown link, which may hold parentheses in pairs."""
    depth = 0
    for letter in url:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
    return url if depth == 0 else url.replace("(", "%28").replace(")", "%29")
