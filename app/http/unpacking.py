"""Content codings of request bodies: gzip, deflate, br and zstd.

A body is unpacked as it arrives, piece by piece, so that its unpacked size can be limited before it
takes memory. Of what one packet holds only the first piece is unpacked in the event loop.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from functools import partial
from typing import Protocol

import brotli  # type: ignore[import-untyped]  # it has none

from app.openai.errors import BadRequest, UnsupportedEncoding

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

PIECE = 65_536
"""Bytes, about, that are unpacked at once."""

_ZSTD_WINDOW = 23
"""Logarithm of the largest window: 8 MB, the most that RFC 9659 allows for HTTP."""

_ERRORS = (zlib.error, brotli.error, ZstdError, EOFError)


class Unpacker(Protocol):
    """State of one body."""

    @property
    def finished(self) -> bool:
        """True once the end of the packed data has been read."""

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Unpack the next packed bytes."""


class Zlib:
    """gzip and deflate. With `deflate`, some clients leave out the frame around the data."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inner: zlib._Decompress | None = None

    @property
    def finished(self) -> bool:
        """See `Unpacker`."""
        return self._inner is not None and self._inner.eof and not self._inner.unused_data

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """See `Unpacker`."""
        if self._inner is None:
            framed = packed[0] & 0x0F == zlib.DEFLATED
            self._inner = zlib.decompressobj(31 if self._gzip else 15 if framed else -15)
        elif self._inner.eof:
            raise EOFError
        piece = self._inner.decompress(packed, PIECE)
        yield piece
        while len(piece) == PIECE:
            piece = self._inner.decompress(self._inner.unconsumed_tail, PIECE)
            yield piece


class Brotli:
    """br."""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def finished(self) -> bool:
        """See `Unpacker`."""
        return bool(self._inner.is_finished())

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """See `Unpacker`."""
        piece = self._inner.process(packed, output_buffer_limit=PIECE)
        yield piece
        while len(piece) >= PIECE or not self._inner.can_accept_more_data():
            piece = self._inner.process(b"", output_buffer_limit=PIECE)
            yield piece


class Zstd:
    """zstd."""

    def __init__(self) -> None:
        self._inner = ZstdDecompressor(
            options={DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        )

    @property
    def finished(self) -> bool:
        """See `Unpacker`."""
        return self._inner.eof and not self._inner.unused_data

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """See `Unpacker`."""
        yield self._inner.decompress(packed, PIECE)
        while not self._inner.needs_input and not self._inner.eof:
            yield self._inner.decompress(b"", PIECE)


_UNPACKERS: dict[str, Callable[[], Unpacker]] = {
    "gzip": partial(Zlib, gzip=True),
    "x-gzip": partial(Zlib, gzip=True),
    "deflate": partial(Zlib, gzip=False),
    "br": Brotli,
    "zstd": Zstd,
}


def unpacked(parts: AsyncIterable[bytes], encoding: str) -> AsyncIterable[bytes]:
    """Unpack a body with this `Content-Encoding`, which may be empty.

    Raises:
        UnsupportedEncoding: the encoding is unknown.
        BadRequest: while iterating, if the body is not of this encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return parts
    if (make := _UNPACKERS.get(encoding)) is None:
        raise UnsupportedEncoding(param="Content-Encoding")
    return _unpack(parts, make(), encoding)


async def _unpack(
    parts: AsyncIterable[bytes], unpacker: Unpacker, encoding: str
) -> AsyncIterator[bytes]:
    try:
        async for part in parts:
            pieces = unpacker.pieces(part)
            piece = next(pieces, None)
            while piece is not None:
                yield piece
                piece = await asyncio.to_thread(next, pieces, None)
        finished = unpacker.finished
    except _ERRORS:
        finished = False
    if not finished:
        raise BadRequest(
            f"The request body is not valid {encoding}, its Content-Encoding.",
            param="Content-Encoding",
        )
