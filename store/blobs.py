"""Blobs: large parts of jobs, stored by a front end and read by a worker (claim-check pattern).

A job carries only the key of a blob through Redis. Blobs are in the media store, under a prefix
that is never served and under names that nobody can guess, sealed in segments of `SEGMENT` bytes
each: read access to the store reveals nothing, and neither side ever holds a large blob whole. A
segment opens only at its own position in its own blob.

A job's blobs are removed by its front end when the request ends, and by its worker when the job
finishes; any front end sweeps those that both left when they were killed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

import msgspec
import obstore
from msgspec.structs import replace
from obstore.store import ObjectStore

import settings
from runtime.large import work_on
from store.objects import StoreError, open_store, remove, remove_older, store_errors
from wire.jobs import Attachment, Job, Offloaded, RelayedJob, decode_messages
from wire.seal import Seal, SealError

LARGE = 256 * 1024
"""Bytes; anything longer goes to the store, everything else travels with the job."""

SEGMENT = 256 * 1024
"""Bytes of content in one sealed segment."""

BUFFER = 8 * 1024 * 1024
"""Bytes of a blob that are held until they are written, at most about twice."""

LEEWAY = 3600.0
"""Seconds that a blob is kept beyond the longest life of a job."""

_PREFIX = "parts"
_KEY = re.compile(r"[0-9a-f]{32}")


class Content(msgspec.Struct, frozen=True):
    """Stored bytes: inline, or, if they are large, by the key of their blob."""

    size: int
    sha256: str
    content: bytes = b""
    blob_key: str = ""


def open_blobs(config: settings.Settings, seal: Seal) -> Blobs:
    """Open the blobs in the operator's media store.

    Raises:
        SettingsError: the setting names no store.
    """
    store = open_store(config.media.store, config.directory)
    longest = config.queue.longest_wait + config.longest_answer
    return Blobs(store, seal, longest + LEEWAY)


class Blobs:
    """Blobs of jobs. A blob older than `ttl` seconds belongs to no job any more."""

    def __init__(self, store: ObjectStore, seal: Seal, ttl: float) -> None:
        self._store = store
        self._seal = seal
        self._ttl = ttl

    async def put(self, chunks: AsyncIterator[bytes | bytearray]) -> Content:
        """Store chunks of any length, whole or not at all; few bytes are returned inline.

        Raises:
            StoreError: `store_failed`. Exceptions of `chunks` pass through.
        """
        digest = hashlib.sha256()
        size = 0
        first = bytearray()
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            first += chunk
            if size > LARGE:
                break
        else:
            return Content(size, digest.hexdigest(), bytes(first))
        key = secrets.token_hex(16)
        segments = _Segments(self._seal, key)
        writer = obstore.open_writer_async(
            self._store, f"{_PREFIX}/{key}", buffer_size=BUFFER, max_concurrency=1
        )
        # An exception inside the writer's context discards everything written so far.
        with store_errors(self._store):
            async with writer:
                for segment in segments.seal(first):
                    await writer.write(segment)
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    for segment in segments.seal(chunk):
                        await writer.write(segment)
                for segment in segments.seal_remainder():
                    await writer.write(segment)
        return Content(size, digest.hexdigest(), blob_key=key)

    async def read(self, content: Content | Attachment | Offloaded) -> AsyncGenerator[bytes, None]:
        """All stored bytes of a content, in chunks.

        Raises:
            StoreError: `store_failed`; `gone`; `unreadable` if they are not the bytes that were
                stored.
        """
        if not content.blob_key:
            yield content.content
            return
        segments = _Segments(self._seal, content.blob_key)
        left = content.size
        with store_errors(self._store):
            try:
                found = await obstore.get_async(self._store, _path(content.blob_key))
            except FileNotFoundError:
                # Removed with its job; there is nothing for an operator to do.
                raise StoreError("gone") from None
            async for data in found.stream(min_chunk_size=SEGMENT):
                for plain in segments.open(bytes(data), left):
                    left -= len(plain)
                    yield plain
        if left:
            raise StoreError("unreadable")

    async def offload(self, messages: bytes | bytearray, file_bytes: int) -> Offloaded:
        """Store encoded messages that are `LARGE`; `file_bytes` is the size of their files' blobs.

        Raises:
            StoreError: `store_failed`.
        """
        content = await self.put(_chunks(messages))
        return Offloaded(content.size, content.sha256, content.blob_key, file_bytes)

    async def restore(self, job: Job) -> Job:
        """Give a job its messages, or its body, back, if they were offloaded.

        Raises:
            StoreError: as for `read`.
            msgspec.MsgspecError: the messages are of another version.
        """
        if job.offloaded is None:
            return job
        chunks = [chunk async for chunk in self.read(job.offloaded)]
        if isinstance(job, RelayedJob):
            return replace(job, body=b"".join(chunks), offloaded=None)
        messages = await work_on(job.offloaded.size, lambda: decode_messages(b"".join(chunks)))
        return replace(job, messages=messages, offloaded=None)

    async def remove(self, keys: Iterable[str]) -> None:
        """Remove blobs, if they exist. Those that cannot be removed now are swept later."""
        try:
            with store_errors(self._store):
                for key in keys:
                    await remove(self._store, _path(key))
        except StoreError:
            pass  # already logged

    async def sweep(self) -> int:
        """Remove blobs that belong to no job any more; return their number.

        Raises:
            StoreError: `store_failed`.
        """
        return await remove_older(self._store, _PREFIX, self._ttl)


class _Segments:
    """Cuts and seals the bytes of one blob, or opens them again. No I/O."""

    def __init__(self, seal: Seal, key: str) -> None:
        self._seal = seal
        self._key = key
        self._number = 0
        self._buffer = bytearray()

    def seal(self, plain: bytes | bytearray) -> Iterator[bytes]:
        """Take more content; yield the segments that are full."""
        self._buffer += plain
        while len(self._buffer) >= SEGMENT:
            yield self._seal.seal(bytes(self._buffer[:SEGMENT]), self._context())
            del self._buffer[:SEGMENT]

    def seal_remainder(self) -> Iterator[bytes]:
        """Yield the last segment, unless nothing is left for it."""
        if self._buffer:
            yield self._seal.seal(bytes(self._buffer), self._context())

    def open(self, sealed: bytes, left: int) -> Iterator[bytes]:
        """Take more sealed bytes; yield the content of complete segments. `left` bytes are to come.

        Raises:
            StoreError: `unreadable`.
        """
        self._buffer += sealed
        while left and len(self._buffer) >= (length := min(left, SEGMENT) + Seal.OVERHEAD):
            try:
                plain = self._seal.open(bytes(self._buffer[:length]), self._context())
            except SealError:
                raise StoreError("unreadable") from None
            del self._buffer[:length]
            left -= len(plain)
            yield plain

    def _context(self) -> str:
        """The position that the next segment is sealed to."""
        self._number += 1
        return f"part {self._key} {self._number}"


def _path(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StoreError("unreadable")  # not made by `put`
    return f"{_PREFIX}/{key}"


async def _chunks(body: bytes | bytearray) -> AsyncIterator[bytes | bytearray]:
    for start in range(0, len(body), SEGMENT):
        yield body[start : start + SEGMENT]
