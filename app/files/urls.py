"""Client-supplied URLs of files, in the spelling in which they are requested. Pure.

A signed URL is valid in its own spelling only: `%3A` must not become `:`. So nothing that is valid
in a URL is changed, and only what would be invalid is encoded, as browsers do.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin

import yarl

from settings.urls import read_url

_HOST = re.compile(r"[^/?#]*")
_INVALID = re.compile(r"[^!#-;=?-\[\]-_a-~]+")
"""Spaces, control characters, quotes, angle brackets, backslashes, and all beyond ASCII."""


def parse_url(text: str) -> yarl.URL:
    """Parse the URL of a file.

    Raises:
        ValueError: it is not an http(s) URL.
    """
    text = text.strip()
    parsed = read_url(text)
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.explicit_port == 0:
        raise ValueError("not an http(s) URL")
    if _INVALID.search(parsed.raw_authority):
        raise ValueError("not a host")
    _, _, behind_scheme = text.partition("://")
    path = _INVALID.sub(_encoded, _HOST.sub("", behind_scheme, count=1).partition("#")[0])
    if not path.startswith("/"):
        path = f"/{path}"
    return yarl.URL(f"{parsed.scheme}://{parsed.raw_authority}{path}", encoded=True)


def follow(base: yarl.URL, location: str) -> yarl.URL:
    """Parse the `Location` of a redirect, which may be relative to the URL that it came from.

    Raises:
        ValueError: it is not an http(s) URL.
    """
    return parse_url(urljoin(str(base), location))


def _encoded(found: re.Match[str]) -> str:
    return quote(found[0].encode("utf-8", "surrogateescape"), safe="")
