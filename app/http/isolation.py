"""Headers that keep other sites, frames and caches away from the answers to operators."""

from __future__ import annotations

from sanic.response import BaseHTTPResponse

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Not `no-referrer`, with which browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def isolate(response: BaseHTTPResponse) -> None:
    """Add these headers to an answer, except for those that it has."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def is_below(path: str, folder: str) -> bool:
    """Return True if a path is a folder, or in it; nothing is in the folder ""."""
    return bool(folder) and (path == folder or path.startswith(f"{folder}/"))
