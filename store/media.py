"""The media store: images and files of answers, written by workers and served by front ends.

A folder that both can reach, or a bucket, through one API (obstore). Objects are streamed: at most
a few megabytes are in memory, however large a file is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

import settings
from store.names import PICTURES, SIGNATURE_BYTES, make_name, parse_name

MediaKind = Literal["images", "files"]
"""The prefix of an object's path in the store, and of its path in a URL."""

_KINDS: tuple[MediaKind, ...] = get_args(MediaKind)
_BUFFER = 8 * 1024 * 1024  # larger objects are sent to a bucket in parts of this size
_CHUNK = 256 * 1024

_log = logging.getLogger(__name__)

_STORE_ERRORS = (BaseError, OSError, ValueError)
"""Exceptions that a store raises; obstore maps some of its errors to Python's own."""


class MediaError(Exception):
    """Something cannot be stored or fetched. The text is a code, without a name or an address."""


class StoredObject(msgspec.Struct, frozen=True):
    """Properties of an object in the store.

    `age` is in seconds, `filename` is the name under which a client saves it, and `inline` says
    that a browser may show it.
    """

    size: int
    age: float
    type: str
    filename: str
    inline: bool


def open_store(location: str, directory: Path) -> ObjectStore:
    """Open the store that a setting names: a folder, relative to `directory`, or a bucket's URL.

    A bucket's credentials come from the environment, by the names that its own tools use.

    Raises:
        MediaError: the setting names no store. The text is for the operator.
    """
    try:
        if "://" in location:
            return from_url(location)
        return LocalStore(directory / location, mkdir=True)
    except OSError as error:
        reason = str(error).partition(" (os error")[0]
        message = f"media.store: the folder {directory / location} cannot be made: {reason}"
        raise MediaError(message) from None
    except _STORE_ERRORS:
        raise MediaError(
            "media.store: expected a folder, or a bucket as in s3://name, gs://name or az://name"
            " (what else a bucket needs comes from the environment, by its own tools' names)"
        ) from None


def open_media(config: settings.Media, directory: Path) -> Media:
    """Open the operator's media store; `directory` is that of the settings.

    Raises:
        MediaError: the setting names no store. The text is for the operator.
    """
    return Media(open_store(config.store, directory), config.max_bytes, config.ttl)


class Media:
    """Images and files in the store. Objects older than `ttl` seconds count as removed."""

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
            MediaError: `too_large`, `not_an_image` (only for images), `empty`, or `store_failed`.
        """
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= SIGNATURE_BYTES:
                break
        if not head:
            raise MediaError("empty")
        if len(head) > self.max_bytes:
            raise MediaError("too_large")
        name = make_name(head, original_name)
        if kind == "images" and name.rpartition(".")[2] not in PICTURES:
            raise MediaError("not_an_image")
        writer = obstore.open_writer_async(
            self._store, f"{kind}/{name}", buffer_size=_BUFFER, max_concurrency=1
        )
        # An exception inside the writer's context discards everything written so far.
        with store_errors():
            async with writer:
                await writer.write(head)
                size = len(head)
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self.max_bytes:
                        raise MediaError("too_large")
                    await writer.write(chunk)
        return name

    async def find(self, kind: MediaKind, name: str) -> StoredObject | None:
        """The properties of an object; None if there is no object of this name.

        Raises:
            MediaError: `store_failed`.
        """
        parsed = parse_name(name)
        if parsed is None:
            return None
        with store_errors():
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
        """The bytes of an object that `find` has found, in chunks.

        Raises:
            MediaError: `store_failed`, also if it has been removed since.
        """
        with store_errors():
            found = await obstore.get_async(self._store, f"{kind}/{name}")
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    async def sweep(self) -> int:
        """Remove objects older than `ttl`; return their number. Concurrent sweeps are safe.

        Raises:
            MediaError: `store_failed`.
        """
        return sum([await remove_older(self._store, kind, self.ttl) for kind in _KINDS])


async def remove_older(store: ObjectStore, prefix: str, age: float) -> int:
    """Remove the objects under a prefix that are older than `age` seconds; return their number.

    Raises:
        MediaError: `store_failed`.
    """
    removed = 0
    limit = datetime.now(UTC) - timedelta(seconds=age)
    with store_errors():
        async for batch in obstore.list(store, prefix=prefix):
            for path in [meta["path"] for meta in batch if meta["last_modified"] < limit]:
                removed += await remove(store, path)
        if isinstance(store, LocalStore) and store.prefix is not None:
            removed += await asyncio.to_thread(_remove_unfinished, store.prefix / prefix, limit)
    return removed


def _remove_unfinished(folder: Path, limit: datetime) -> int:
    """Remove files that a killed process was writing: the store does not list them."""
    removed = 0
    for path in folder.glob("*#*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit.timestamp():
                path.unlink()
                removed += 1
    return removed


async def remove(store: ObjectStore, path: str) -> bool:
    """Remove an object and return True; return False if another sweep has already removed it."""
    try:
        await obstore.delete_async(store, path)
    except FileNotFoundError:
        return False
    return True


async def keep_sweeping(sweep: Callable[[], Awaitable[int]], noun: str, interval: float) -> None:
    """Run `sweep` at once and then every `interval` seconds, forever. `noun` is for the log."""
    while True:
        try:
            if removed := await sweep():
                _log.info(
                    "Removed expired objects from the media store",
                    extra={"event": "media_swept", "what": noun, "removed": removed},
                )
        except MediaError as error:
            _log.warning(
                "Expired objects could not be removed from the media store",
                extra={"event": "media_not_swept", "reason": str(error)},
            )
        await asyncio.sleep(interval)


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate store errors to MediaError, without a cause: their messages contain paths.

    An iterator consumed inside (`put`'s chunks) must not raise exceptions of the same types.
    """
    try:
        yield
    except _STORE_ERRORS as error:
        _log.error(
            "The media store (media.store) failed",
            extra={"event": "media_store_failed", "reason": type(error).__name__},
        )
        raise MediaError("store_failed") from None
