"""Large parts of jobs, which do not travel through Redis: put in by a front end, read by workers.

They lie in the media store, on a shelf that is never served, under names that nobody can guess and
sealed, in boxes of `_PLAIN` bytes each: whoever can read the store reads nothing, and neither side
ever holds a large part whole. A box opens only in its own place of its own part.

What a job holds is removed by its front end when the request ends, and by its worker when the job
does; what both of them left behind when they were killed, by whichever front end sweeps.
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
from store.media import MediaError, failing, open_store, remove, remove_older
from wire.jobs import Attachment, ChatJob, Elsewhere, decode_messages, encode_messages
from wire.seal import Seal, SealError

LARGE = 256 * 1024
"""Bytes; what is longer goes to the store, everything else with the job."""

LEEWAY = 3600.0
"""Seconds that a part is kept beyond the longest life of a job."""

BUFFER = 8 * 1024 * 1024
"""Bytes of a large part that are held until they are written, at most about twice."""

_SHELF = "parts"
_PLAIN = 256 * 1024
_NAME = re.compile(r"[0-9a-f]{32}")


class Content(msgspec.Struct, frozen=True):
    """Bytes that were taken in: as they are, or, if they are many, by their name in the store."""

    size: int
    sha256: str
    content: bytes = b""
    held: str = ""


def open_parts(config: settings.Settings, seal: Seal) -> Parts:
    """The shelf of the operator's media store.

    Raises:
        MediaError: the setting names none. The text is for the operator.
    """
    store = open_store(config.media.store, config.directory)
    longest = config.queue.longest_wait + config.upstream.max_duration
    return Parts(store, seal, longest + LEEWAY)


class Parts:
    """One process' hold on the shelf. What is older than `ttl` seconds belongs to nobody."""

    def __init__(self, store: ObjectStore, seal: Seal, ttl: float) -> None:
        self._store = store
        self._seal = seal
        self._ttl = ttl

    async def take(self, pieces: AsyncIterator[bytes]) -> Content:
        """Take in what comes in these pieces, of any length. It is kept whole, or not at all.

        Raises:
            MediaError: `store_failed`. What the pieces raise comes through.
        """
        digest = hashlib.sha256()
        size = 0
        first = bytearray()
        async for piece in pieces:
            digest.update(piece)
            size += len(piece)
            first += piece
            if size > LARGE:
                break
        else:
            return Content(size, digest.hexdigest(), bytes(first))
        name = secrets.token_hex(16)
        boxes = _Boxes(self._seal, name)
        writer = obstore.open_writer_async(
            self._store, f"{_SHELF}/{name}", buffer_size=BUFFER, max_concurrency=1
        )
        # An exception that leaves the writer's context throws away what it has written.
        with failing():
            async with writer:
                for box in boxes.pack(first):
                    await writer.write(box)
                async for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    for box in boxes.pack(piece):
                        await writer.write(box)
                for box in boxes.rest():
                    await writer.write(box)
        return Content(size, digest.hexdigest(), held=name)

    async def read(self, content: Content | Attachment | Elsewhere) -> AsyncGenerator[bytes, None]:
        """The bytes that were taken in, all of them, piece by piece.

        Raises:
            MediaError: `store_failed`; `gone`; `unreadable`, if they are not what was put there.
        """
        if not content.held:
            yield content.content
            return
        boxes = _Boxes(self._seal, content.held)
        left = content.size
        with failing():
            try:
                found = await obstore.get_async(self._store, _path(content.held))
            except FileNotFoundError:
                raise MediaError("gone") from None  # with its job: nothing that an operator can do
            async for data in found.stream(min_chunk_size=_PLAIN):
                for plain in boxes.unpack(bytes(data), left):
                    left -= len(plain)
                    yield plain
        if left:
            raise MediaError("unreadable")

    async def lighten(self, job: ChatJob) -> ChatJob:
        """The job as it may travel: with its messages elsewhere, if they are long together.

        Raises:
            MediaError: `store_failed`.
        """
        body = encode_messages(job.messages)
        if len(body) <= LARGE:
            return job
        content = await self.take(_sliced(body))
        where = Elsewhere(content.size, content.sha256, content.held, job.held_bytes)
        return replace(job, messages=[], elsewhere=where)

    async def whole(self, job: ChatJob) -> ChatJob:
        """The inverse of `lighten`.

        Raises:
            MediaError: as for `read`.
            msgspec.MsgspecError: they are of another version.
        """
        if job.elsewhere is None:
            return job
        body = b"".join([piece async for piece in self.read(job.elsewhere)])
        return replace(job, messages=decode_messages(body), elsewhere=None)

    async def remove(self, names: Iterable[str]) -> None:
        """Remove some parts that may be there. What cannot be removed now is swept later."""
        try:
            with failing():
                for name in names:
                    await remove(self._store, _path(name))
        except MediaError:
            pass  # has been said

    async def sweep(self) -> int:
        """Remove what belongs to nobody; how many that were.

        Raises:
            MediaError: `store_failed`.
        """
        return await remove_older(self._store, _SHELF, self._ttl)


class _Boxes:
    """A part's bytes, cut and sealed, or the other way round. No I/O."""

    def __init__(self, seal: Seal, name: str) -> None:
        self._seal = seal
        self._name = name
        self._number = 0
        self._buffer = bytearray()

    def pack(self, plain: bytes | bytearray) -> Iterator[bytes]:
        """The boxes that are full."""
        self._buffer += plain
        while len(self._buffer) >= _PLAIN:
            yield self._seal.seal(bytes(self._buffer[:_PLAIN]), self._place())
            del self._buffer[:_PLAIN]

    def rest(self) -> Iterator[bytes]:
        """The last box, unless nothing is left for it."""
        if self._buffer:
            yield self._seal.seal(bytes(self._buffer), self._place())

    def unpack(self, sealed: bytes, left: int) -> Iterator[bytes]:
        """What is in the boxes that are whole, of which `left` bytes are to come in all.

        Raises:
            MediaError: `unreadable`.
        """
        self._buffer += sealed
        while left and len(self._buffer) >= (length := min(left, _PLAIN) + Seal.OVERHEAD):
            try:
                plain = self._seal.open(bytes(self._buffer[:length]), self._place())
            except SealError:
                raise MediaError("unreadable") from None
            del self._buffer[:length]
            left -= len(plain)
            yield plain

    def _place(self) -> str:
        self._number += 1
        return f"part {self._name} {self._number}"


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise MediaError("unreadable")  # no name of ours
    return f"{_SHELF}/{name}"


async def _sliced(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PLAIN):
        yield body[start : start + _PLAIN]
