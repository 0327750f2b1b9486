"""URLs of our own images and files, which clients send back in a conversation.

They are read from the media store: the address that clients see may not be reachable from here. A
name in the store is proof enough, since it has 128 random bits.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from store.media import Media, MediaKind

_OWN = re.compile(r"https?://[^?#]*/(?P<kind>images|files)/(?P<name>[^/?#]+)", re.IGNORECASE)


class OwnLink(msgspec.Struct, frozen=True):
    """An object in the media store: its kind and name there, its media type and its file name."""

    kind: MediaKind
    name: str
    type: str
    filename: str


async def find_own(media: Media, url: str) -> OwnLink | None:
    """Return the object that a URL of ours leads to; None for any other URL.

    Raises:
        StoreError: the store fails.
    """
    found = _OWN.match(url)
    if found is None:
        return None
    kind: MediaKind = "images" if found["kind"].lower() == "images" else "files"
    name = unquote(found["name"])
    stored = await media.find(kind, name)
    return OwnLink(kind, name, stored.type, stored.filename) if stored else None
