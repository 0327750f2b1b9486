"""Addresses of a server: its API's, and those that only some servers have besides. Pure."""

from __future__ import annotations

import re

import yarl

from workers.http.trouble import host_of

_VERSION = re.compile(r"v[0-9]+[a-z0-9]*")


class Addresses:
    """URLs below `upstream.base_url`, which may already end with the API's `/v1`.

    `texts` are the forms in which the server may mention its address, `host` that for the log.
    """

    def __init__(self, base_url: str) -> None:
        base = str(yarl.URL(base_url)).rstrip("/")
        parts = yarl.URL(base).parts[1:]
        # Also as in `https://example.org/v1beta/openai`, which is the API's address as it is.
        is_api = any(map(_VERSION.fullmatch, parts))
        self.texts = (base_url, yarl.URL(base).authority)
        self.host = host_of(yarl.URL(base))
        self._api = base if is_api else f"{base}/v1"
        ends_with_version = is_api and _VERSION.fullmatch(parts[-1])
        self._root = base.removesuffix(f"/{parts[-1]}") if ends_with_version else base

    def api(self, path: str) -> yarl.URL:
        """Return the URL of a path of the API, such as `models`."""
        return yarl.URL(f"{self._api}/{path}", encoded=True)

    def root(self, path: str) -> yarl.URL:
        """Return the URL of a path outside of the API, such as `props`."""
        return yarl.URL(f"{self._root}/{path}", encoded=True)
