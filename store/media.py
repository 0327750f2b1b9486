"""The media store: images and files of answers, which a worker puts in and a front end serves.

A folder that both reach, or a bucket, by one API (obstore). Nothing is kept in memory beyond a few
megabytes, however large a file is. All that is known of an object is its name, since a folder keeps
no attributes: 128 random bits, then what a client may see of it. The extension is the type that the
first bytes show, and only what cannot be told from its bytes keeps the extension it came with.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
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

Shelf = Literal["images", "files"]
_SHELVES: tuple[Shelf, ...] = get_args(Shelf)

PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
"""The types that a browser may show, by extension. No object has one of these without its bytes."""

_TYPES = {
    **PICTURES,
    "csv": "text/csv; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "json": "application/json",
    "md": "text/plain; charset=utf-8",
    "pdf": "application/pdf",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "py": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
_SNIFFED = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ("png",)),
    (re.compile(rb"\xff\xd8\xff"), ("jpg", "jpeg")),
    (re.compile(rb"GIF8[79]a"), ("gif",)),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ("webp",)),
    (re.compile(rb"%PDF-"), ("pdf",)),
)
_ENOUGH = 16  # bytes that settle the type
_SHOWN = 120  # bytes of a name: with the rest it must stay below the 255 of a file system
_NAME = re.compile(r"(?P<token>[0-9a-f]{32})(?:_(?P<stem>[\w.-]+))?\.(?P<extension>[a-z0-9]{1,8})")
_BUFFER = 8 * 1024 * 1024  # what is larger goes to a bucket in parts of this size
_PIECE = 256 * 1024

_log = logging.getLogger(__name__)

_FAILS = (BaseError, OSError, ValueError)
"""What a store raises; obstore gives some of its errors as Python's own."""


class MediaError(Exception):
    """Something cannot be kept, or fetched. The text is a code: no name, no address."""


class Kept(msgspec.Struct, frozen=True):
    """An object of the store. `filename` is for a client that saves it, `age` is in seconds."""

    size: int
    age: float
    type: str
    filename: str
    shows: bool


def open_store(where: str, directory: Path) -> ObjectStore:
    """The store of a setting: a folder, from `directory`, or the URL of a bucket.

    A bucket's credentials come from the environment, by the names its own tools use.

    Raises:
        MediaError: no store can be made of this. The text is for the operator.
    """
    try:
        if "://" in where:
            return from_url(where)
        return LocalStore(directory / where, mkdir=True)
    except OSError as error:
        reason = str(error).partition(" (os error")[0]
        message = f"media.store: the folder {directory / where} cannot be made: {reason}"
        raise MediaError(message) from None
    except _FAILS:
        raise MediaError(
            "media.store: expected a folder, or a bucket as in s3://name, gs://name or az://name"
            " (what else a bucket needs comes from the environment, by its own tools' names)"
        ) from None


def open_media(config: settings.Media, directory: Path) -> Media:
    """The store that the operator has chosen; `directory` is that of the settings.

    Raises:
        MediaError: the setting names none. The text is for the operator.
    """
    return Media(open_store(config.store, directory), config.max_bytes, config.ttl)


class Media:
    """One process' hold on the store. What is older than `ttl` seconds is not there any more."""

    def __init__(self, store: ObjectStore, max_bytes: int, ttl: float) -> None:
        self.max_bytes = max_bytes
        self.ttl = ttl
        self._store = store

    async def put(self, shelf: Shelf, pieces: AsyncIterator[bytes], given: str = "") -> str:
        """Keep what comes in these pieces; its name. It is there whole, or not at all.

        `given` is a name that somebody else gave it, of which the safe part stays in ours.

        Raises:
            MediaError: `too_large`, `not_an_image` (on the shelf of images), `empty`, or
                `store_failed`.
        """
        head = b""
        async for piece in pieces:
            head += piece
            if len(head) >= _ENOUGH:
                break
        if not head:
            raise MediaError("empty")
        if len(head) > self.max_bytes:
            raise MediaError("too_large")
        name = make_name(head, given)
        if shelf == "images" and name.rpartition(".")[2] not in PICTURES:
            raise MediaError("not_an_image")
        writer = obstore.open_writer_async(
            self._store, f"{shelf}/{name}", buffer_size=_BUFFER, max_concurrency=1
        )
        # An exception that leaves the writer's context throws away what it has written.
        with failing():
            async with writer:
                await writer.write(head)
                size = len(head)
                async for piece in pieces:
                    size += len(piece)
                    if size > self.max_bytes:
                        raise MediaError("too_large")
                    await writer.write(piece)
        return name

    async def look(self, shelf: Shelf, name: str) -> Kept | None:
        """What is known of an object; None if there is none of this name.

        Raises:
            MediaError: `store_failed`.
        """
        parts = _NAME.fullmatch(name)
        if parts is None:
            return None
        with failing():
            try:
                meta = await obstore.head_async(self._store, f"{shelf}/{name}")
            except FileNotFoundError:
                return None
        age = (datetime.now(UTC) - meta["last_modified"]).total_seconds()
        if age > self.ttl:
            return None
        extension = parts["extension"]
        return Kept(
            size=meta["size"],
            age=age,
            type=_TYPES.get(extension, "application/octet-stream"),
            filename=f"{parts['stem'] or parts['token']}.{extension}",
            shows=extension in PICTURES,
        )

    async def read(self, shelf: Shelf, name: str) -> AsyncIterator[bytes]:
        """The bytes of an object that `look` has found, piece by piece.

        Raises:
            MediaError: `store_failed`, also if it is gone by now.
        """
        with failing():
            found = await obstore.get_async(self._store, f"{shelf}/{name}")
            async for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)

    async def sweep(self) -> int:
        """Remove what is older than `ttl`; how many that were. Any number may do it at once.

        Raises:
            MediaError: `store_failed`.
        """
        return sum([await remove_older(self._store, shelf, self.ttl) for shelf in _SHELVES])


async def remove_older(store: ObjectStore, prefix: str, age: float) -> int:
    """Remove what is under a prefix and older than so many seconds; how many that were.

    Raises:
        MediaError: `store_failed`.
    """
    removed = 0
    limit = datetime.now(UTC) - timedelta(seconds=age)
    with failing():
        async for batch in obstore.list(store, prefix=prefix):
            for path in [meta["path"] for meta in batch if meta["last_modified"] < limit]:
                removed += await remove(store, path)
        if isinstance(store, LocalStore) and store.prefix is not None:
            removed += await asyncio.to_thread(_remove_unfinished, store.prefix / prefix, limit)
    return removed


def _remove_unfinished(shelf: Path, limit: datetime) -> int:
    """Remove what a killed process was writing to a folder, which the store does not list."""
    removed = 0
    for path in shelf.glob("*#*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit.timestamp():
                path.unlink()
                removed += 1
    return removed


async def remove(store: ObjectStore, path: str) -> bool:
    """Remove an object, if it is there: others may sweep, too."""
    try:
        await obstore.delete_async(store, path)
    except FileNotFoundError:
        return False
    return True


async def keep_sweeping(sweep: Callable[[], Awaitable[int]], what: str, every: float) -> None:
    """Sweep for ever, at once and then `every` so many seconds. `what` is a word for the log."""
    while True:
        try:
            if removed := await sweep():
                _log.info(
                    "Removed %d %s that were too old",
                    removed,
                    what,
                    extra={"event": "media_swept", "what": what, "removed": removed},
                )
        except MediaError as error:
            _log.warning(
                "The media store could not be swept: %s",
                error,
                extra={"event": "media_not_swept", "reason": str(error)},
            )
        await asyncio.sleep(every)


@contextmanager
def failing() -> Iterator[None]:
    """The store's errors as ours; they name paths, and so are no cause.

    What comes in from elsewhere (`put`'s pieces) must raise nothing that looks like them.
    """
    try:
        yield
    except _FAILS as error:
        _log.error(
            "The media store (media.store) failed: %s",
            type(error).__name__,
            extra={"event": "media_store_failed", "reason": type(error).__name__},
        )
        raise MediaError("store_failed") from None


def make_name(head: bytes, given: str = "") -> str:
    """A new name for an object that begins with these bytes. Pure, but for its randomness."""
    stem, _, came_with = re.sub(r"[^\w.-]+", "_", given).strip("._").rpartition(".")
    if not stem:
        stem, came_with = came_with, ""
    extension = _extension(head, came_with.lower())
    if came_with and came_with.lower() != extension:
        stem = f"{stem}.{came_with}"  # it is still its name, only not what it is
    shown = stem.encode()[:_SHOWN].decode(errors="ignore")
    return secrets.token_hex(16) + (f"_{shown}" if shown else "") + f".{extension}"


def _extension(head: bytes, came_with: str) -> str:
    for shape, extensions in _SNIFFED:
        if shape.match(head):
            return came_with if came_with in extensions else extensions[0]
    if came_with in PICTURES or not re.fullmatch(r"[a-z0-9]{1,8}", came_with):
        return "bin"
    return came_with
