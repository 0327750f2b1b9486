"""URLs and URL prefixes in settings: checked, and brought into one form.

Each function raises ValueError with a message that shows nothing of the text: it may contain a
password.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
import yarl

from settings.credentials import Access


class ProxyUrl(msgspec.Struct, frozen=True):
    """Address of the proxy in front of the upstream. A SOCKS proxy resolves host names itself."""

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    access: Access = Access()


def read_url(text: str, *, encoded: bool = False) -> yarl.URL:
    """Parse a URL. `encoded`: it is kept as it is spelt. Raises nothing but ValueError."""
    try:
        return yarl.URL(text, encoded=encoded)
    except IndexError:  # which yarl 1.25 raises for `http://[::1]@`
        raise ValueError("not a URL") from None


def proxy_url(text: str) -> ProxyUrl:
    """Parse the URL of a proxy."""
    try:
        url = read_url(text)
    except ValueError:
        url = yarl.URL()
    # An unencoded "/", "?" or "#" in the password would begin one of these.
    rest = url.path.strip("/") or url.raw_query_string or url.raw_fragment
    if url.scheme in ("http", "socks5", "socks5h") and url.host and url.explicit_port and not rest:
        # `socks5h` is another name for a proxy that resolves host names, which ours always do.
        return ProxyUrl(
            "http" if url.scheme == "http" else "socks5",
            url.host,
            url.explicit_port,
            Access(url.user, url.password),
        )
    raise ValueError(
        "expected http:// or socks5:// with [user:password@]host:port, the password percent-encoded"
    )


def http_url(text: str) -> str:
    """Strip the trailing slashes off an HTTP URL; an empty text stays empty."""
    if not text:
        return ""
    try:
        url = read_url(text)
    except ValueError:
        url = yarl.URL()
    if url.scheme not in ("http", "https") or not url.host or url.explicit_port == 0:
        raise ValueError("expected a URL that begins with http:// or https://")
    return text.rstrip("/")


def prefix(text: str) -> str:
    """Normalize a path prefix: `666`, `/666/` and `` become `/666`, `/666` and ``."""
    path = text.strip().strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path):
        raise ValueError("expected letters, digits and any of - . _ ~ /")
    return f"/{path}" if path else ""


def without_password(url: str) -> str:
    """Mask the passwords of a URL, so that it can be shown."""
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", re.sub(r"://.*@", "://***@", url))
