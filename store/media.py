"""The media store: images and files of answers, written by workers and served by front ends.

A folder that both can reach, or a bucket, through one API (obstore). Objects are streamed: at most
a few megabytes are in memory, however large a file is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec
import obstore
from obstore.store import ObjectStore

import settings
from store.names import PICTURES, SIGNATURE_BYTES, make_name, parse_name
from store.objects import StoreError, open_store, remove_older, store_errors

MediaKind = Literal["images", "files"]
"""The prefix of an object's path in the store, and of its path in a URL."""

_KINDS: tuple[MediaKind, ...] = get_args(MediaKind)
_BUFFER = 8 * 1024 * 1024  # larger objects are sent to a bucket in parts of this size
_CHUNK = 256 * 1024


class StoredObject(msgspec.Struct, frozen=True):
    """Properties of an object in the store.

    `age` is in seconds, `filename` is the name under which a client saves it, and `inline` is true
    if a browser may display it.
    """

    size: int
    age: float
    type: str
    filename: str
    inline: bool


def open_media(config: settings.Media, directory: Path) -> Media:
    """Open the operator's media store; `directory` is where the settings file is.

    Raises:
        SettingsError: the setting names no store.
    """
    return Media(open_store(config.store, directory), config.max_bytes, config.ttl)


class Media:
    """Images and files in the store. Objects older than `ttl` seconds are treated as removed."""

    def __init__(self, store: ObjectStore, max_bytes: int, ttl: float) -> None:
        self.max_bytes = max_bytes
        self.ttl = ttl
        self._store = store

    async def put(
        self, kind: MediaKind, chunks: AsyncIterator[bytes], original_name: str = ""
    ) -> str:
        """Store an object, whole or not at all, and return its name.

        The safe part of `original_name` becomes part of the new name.

        Raises:
            StoreError: `too_large`, `not_an_image` (only for images), `empty`, or `store_failed`.
        """
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= SIGNATURE_BYTES:
                break
        if not head:
            raise StoreError("empty")
        if len(head) > self.max_bytes:
            raise StoreError("too_large")
        name = make_name(head, original_name)
        if kind == "images" and name.rpartition(".")[2] not in PICTURES:
            raise StoreError("not_an_image")
        writer = obstore.open_writer_async(
            self._store, f"{kind}/{name}", buffer_size=_BUFFER, max_concurrency=1
        )
        # An exception inside the writer's context discards everything written so far.
        with store_errors(self._store):
            async with writer:
                await writer.write(head)
                size = len(head)
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise StoreError("too_large")
                    await writer.write(chunk)
        return name

    async def find(self, kind: MediaKind, name: str) -> StoredObject | None:
        """Return the properties of an object, or None if there is none.

        Raises:
            StoreError: `store_failed`.
        """
        parsed = parse_name(name)
        if parsed is None:
            return None
        with store_errors(self._store):
            try:
                meta = await obstore.head_async(self._store, f"{kind}/{name}")
            except FileNotFoundError:
                return None
        age = (datetime.now(UTC) - meta["last_modified"]).total_seconds()
        if age > self.ttl:
            return None
        return StoredObject(
            size=meta["size"],
            age=age,
            type=parsed.media_type,
            filename=parsed.filename,
            inline=parsed.is_picture,
        )

    async def read(self, kind: MediaKind, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of an object found by `find`.

        Raises:
            StoreError: `store_failed`, also if it has been removed since.
        """
        with store_errors(self._store):
            found = await obstore.get_async(self._store, f"{kind}/{name}")
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    async def sweep(self) -> int:
        """Remove objects older than `ttl`; return their number. Concurrent sweeps are safe.

        Raises:
            StoreError: `store_failed`.
        """
        return sum([await remove_older(self._store, kind, self.ttl) for kind in _KINDS])
