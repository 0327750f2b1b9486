"""Packed request bodies, unpacked within limits."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import AsyncIterator, Callable

import brotli  # type: ignore[import-untyped]  # it has none
import pytest

from app.http.unpacking import PIECE, unpacked
from app.openai.errors import BadRequest, UnsupportedEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
]
packers = pytest.mark.parametrize(("encoding", "pack"), PACKERS)
DATA = b"".join(b"%d, " % (n * n) for n in range(30_000))


async def parts(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def whole(data: bytes, encoding: str, size: int = 1 << 30) -> bytes:
    return b"".join([piece async for piece in unpacked(parts(data, size), encoding)])


@packers
@pytest.mark.parametrize("size", [1, 1000, 1 << 30])
async def test_a_packed_body_is_unpacked_however_it_arrives(
    encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    data = DATA[:2000] if size == 1 else DATA
    assert await whole(pack(data), encoding, size) == data


@packers
async def test_a_small_body_that_becomes_a_large_one_comes_in_small_pieces(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(bytes(8 * 1024 * 1024))
    pieces = [len(piece) async for piece in unpacked(parts(bomb, 1 << 30), encoding)]
    assert sum(pieces) == 8 * 1024 * 1024
    assert max(pieces) <= 2 * PIECE


@packers
async def test_a_damaged_body_is_refused_by_name(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    good = pack(DATA)
    for bad in (good[:-1], good + b"more", b"{" + good, DATA, b""):
        with pytest.raises(BadRequest, match=encoding.strip().lower()):
            await whole(bad, encoding)


async def test_a_zstd_body_that_wants_a_huge_window_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(DATA * 100) + packer.flush()
    with pytest.raises(BadRequest, match="zstd"):
        await whole(packed, "zstd")


def test_an_unknown_encoding_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip, deflate, br, zstd"):
        unpacked(parts(b"", 1), "compress")


@pytest.mark.parametrize("encoding", ["", "identity"])
async def test_a_body_that_is_not_packed_is_left_alone(encoding: str) -> None:
    assert await whole(DATA, encoding, 1000) == DATA
