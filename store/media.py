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

logger = logging.getLogger(__name__)

_STORE_ERRORS = (BaseError, OSError, ValueError)
"""Exceptions that a store raises; obstore maps some of its errors to Python's own."""


class StoreError(Exception):
    """Something cannot be stored or fetched. The text is a code, without a name or an address."""


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


def open_store(location: str, directory: Path) -> ObjectStore:
    """Open the store that a setting names: a folder, relative to `directory`, or a bucket's URL.

    A bucket's credentials come from the environment variables that its own tools use.

    Raises:
        StoreError: the setting names no store. The text is for the operator.
    """
    try:
        if "://" in location:
            return from_url(location)
        return LocalStore(directory / location, mkdir=True)
    except OSError as error:
        reason = str(error).partition(" (os error")[0]
        message = f"media.store: the folder {directory / location} cannot be created: {reason}"
        raise StoreError(message) from None
    except _STORE_ERRORS:
        raise StoreError(
            "media.store: expected a folder, or a bucket as in s3://name, gs://name or az://name"
            " (a bucket's credentials and options come from the environment variables of its own"
            " tools)"
        ) from None


def open_media(config: settings.Media, directory: Path) -> Media:
    """Open the operator's media store; `directory` is where the settings file is.

    Raises:
        StoreError: the setting names no store. The text is for the operator.
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
        with store_errors():
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
        """Yield the bytes of an object found by `find`.

        Raises:
            StoreError: `store_failed`, also if it has been removed since.
        """
        with store_errors():
            found = await obstore.get_async(self._store, f"{kind}/{name}")
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    async def sweep(self) -> int:
        """Remove objects older than `ttl`; return their number. Concurrent sweeps are safe.

        Raises:
            StoreError: `store_failed`.
        """
        return sum([await remove_older(self._store, kind, self.ttl) for kind in _KINDS])


async def remove_older(store: ObjectStore, prefix: str, max_age: float) -> int:
    """Remove the objects under a prefix that are older than `max_age` seconds; return their number.

    Raises:
        StoreError: `store_failed`.
    """
    removed = 0
    cutoff = datetime.now(UTC) - timedelta(seconds=max_age)
    with store_errors():
        async for batch in obstore.list(store, prefix=prefix):
            for path in [meta["path"] for meta in batch if meta["last_modified"] < cutoff]:
                removed += await remove(store, path)
        if isinstance(store, LocalStore) and store.prefix is not None:
            removed += await asyncio.to_thread(_remove_unfinished, store.prefix / prefix, cutoff)
    return removed


def _remove_unfinished(folder: Path, cutoff: datetime) -> int:
    """Remove partial writes of killed processes, which the store does not list."""
    removed = 0
    for path in folder.glob("*#*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < cutoff.timestamp():
                path.unlink()
                removed += 1
    return removed


async def remove(store: ObjectStore, path: str) -> bool:
    """Return True if the object existed and was removed."""
    try:
        await obstore.delete_async(store, path)
    except FileNotFoundError:
        return False
    return True


async def keep_sweeping(sweep: Callable[[], Awaitable[int]], subject: str, interval: float) -> None:
    """Run `sweep` at once and then every `interval` seconds, forever. `subject` is for the log."""
    while True:
        try:
            if removed := await sweep():
                logger.info(
                    "removed expired objects from the media store",
                    extra={"event": "media_swept", "what": subject, "removed": removed},
                )
        except StoreError as error:
            logger.warning(
                "expired objects could not be removed from the media store",
                extra={"event": "media_not_swept", "reason": str(error)},
            )
        await asyncio.sleep(interval)


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate store errors to StoreError, without a cause: their messages contain paths.

    An iterator consumed inside (`put`'s chunks) must not raise exceptions of the same types.
    """
    try:
        yield
    except _STORE_ERRORS as error:
        logger.error(
            "the media store (media.store) failed",
            extra={"event": "media_store_failed", "reason": type(error).__name__},
        )
        raise StoreError("store_failed") from None
