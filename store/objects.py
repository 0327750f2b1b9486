"""Objects of the operator's store: opening it, removing from it, and its errors."""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from settings import SettingsError
from store.trouble import location, trouble

logger = logging.getLogger(__name__)

_STORE_ERRORS = (BaseError, OSError, ValueError)
"""Exceptions that a store raises; obstore maps some of its errors to Python's own."""


class StoreError(Exception):
    """Something cannot be stored or fetched. The text is a code, without a name or an address."""


def open_store(location: str, directory: Path) -> ObjectStore:
    """Open the store that a setting names: a folder, relative to `directory`, or a bucket's URL.

    A bucket's credentials come from the environment variables that its own tools use.

    Raises:
        SettingsError: the setting names no store.
    """
    try:
        if "://" in location:
            return from_url(location)
        store = LocalStore(directory / location, mkdir=True)
    except OSError as error:
        reason = str(error).partition(" (os error")[0]
        message = f"media.store: the folder {directory / location} cannot be created: {reason}"
        raise SettingsError(message) from None
    except _STORE_ERRORS:
        raise SettingsError(
            "media.store: expected a folder, or a bucket as in s3://name, gs://name or az://name"
            " (a bucket's credentials and options come from the environment variables of its own"
            " tools)"
        ) from None
    _try_writing(directory / location)
    return store


def _try_writing(folder: Path) -> None:
    """Write a file into a folder and into those in it, which another user may have made.

    Raises:
        SettingsError: one cannot be written to.
    """
    for each in (folder, *filter(Path.is_dir, folder.iterdir())):
        try:
            TemporaryFile(dir=each).close()
        except OSError as error:
            raise SettingsError(
                f"media.store: the folder {each} cannot be written to: {error.strerror}; give it"
                f" to the user of this process ({getpass.getuser()}), or name another one"
            ) from None


@contextmanager
def store_errors(store: ObjectStore) -> Iterator[None]:
    """Translate errors of a store to StoreError, without a cause: their messages contain paths.

    An iterator consumed inside (`put`'s chunks) must not raise exceptions of the same types.
    """
    try:
        yield
    except _STORE_ERRORS as error:
        logger.error(
            "the media store (media.store) failed",
            extra={
                "event": "media_store_failed",
                "reason": trouble(error),
                "store": location(store),
            },
        )
        raise StoreError("store_failed") from None


async def remove_older(store: ObjectStore, prefix: str, max_age: float) -> int:
    """Remove the objects under a prefix that are older than `max_age` seconds; return their number.

    Raises:
        StoreError: `store_failed`.
    """
    removed = 0
    cutoff = datetime.now(UTC) - timedelta(seconds=max_age)
    with store_errors(store):
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
    """Remove an object; return False if it did not exist."""
    try:
        await obstore.delete_async(store, path)
    except FileNotFoundError:
        return False
    return True
